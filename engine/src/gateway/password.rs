//! Passwords of the gateway's users: Werkzeug hashes, old and new, checked with bounded cost and in constant time. Must
//! not say, log or keep a password or a hash.

use pbkdf2::hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use crate::error::{Code, Problem, cannot};

/// Memory that one scrypt may take: twice what Werkzeug's default takes.
const SCRYPT_MEMORY: u64 = 64 << 20;
/// Passes over that memory.
const SCRYPT_PASSES: u32 = 8;
/// PBKDF2 rounds: five times Werkzeug's default of today.
const ROUNDS: u32 = 5_000_000;
/// Rounds that Werkzeug took where none were named, newest first (3.1, 2.3, 2.0, 1.0, 0.12, 0.9). A hash that names none
/// does not say which, so each is tried.
const UNNAMED_ROUNDS: [u32; 6] = [1_000_000, 600_000, 260_000, 150_000, 50_000, 1000];
/// Longer ones are no passwords, but a way to keep the box busy.
const LONGEST: usize = 4096;

/// Whether `password` is the one behind `hash` (`method$salt$hex`). A hash of a method that is not known, or whose cost
/// is out of bounds, is a problem and never a match.
pub fn verify(hash: &str, password: &str) -> Result<bool, Problem> {
    let unusable = |why: &str| {
        cannot(
            Code::NO_USERS,
            format!("check the password: its stored hash {why}"),
            "set a new password for this user in the gateway",
        )
    };
    if password.len() > LONGEST {
        return Ok(false);
    }
    let mut parts = hash.splitn(3, '$');
    let (Some(method), Some(salt), Some(hex)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(unusable("is not of the form method$salt$hash"));
    };
    let Some(expected) = bytes_of(hex).filter(|b| !b.is_empty()) else {
        return Err(unusable("does not end in hexadecimal digits"));
    };
    let mut words = method.split(':');
    let name = words.next().unwrap_or_default();
    let numbers: Vec<&str> = words.collect();
    match (name, numbers.as_slice()) {
        ("scrypt", numbers) => {
            let (n, r, p) = match numbers {
                [] => (32_768, 8, 1),
                [n, r, p] => match (n.parse(), r.parse(), p.parse()) {
                    (Ok(n), Ok(r), Ok(p)) => (n, r, p),
                    _ => return Err(unusable("has scrypt parameters that are not numbers")),
                },
                _ => return Err(unusable("has scrypt parameters of an unknown form")),
            };
            scrypt_matches((n, r, p), salt, password, &expected)
                .ok_or_else(|| unusable("has scrypt parameters out of bounds"))
        }
        ("pbkdf2", numbers) => {
            let (digest, rounds): (_, &[u32]) = match numbers {
                [] => ("sha256", &UNNAMED_ROUNDS),
                [digest] => (*digest, &UNNAMED_ROUNDS),
                [digest, rounds] => match rounds.parse() {
                    Ok(rounds) if (1..=ROUNDS).contains(&rounds) => (*digest, &[rounds]),
                    _ => return Err(unusable("has a number of rounds out of bounds")),
                },
                _ => return Err(unusable("has pbkdf2 parameters of an unknown form")),
            };
            for rounds in rounds {
                let Some(found) = pbkdf2(digest, password, salt, *rounds) else {
                    return Err(unusable("uses an unknown digest"));
                };
                if bool::from(found.ct_eq(&expected)) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        // Before pbkdf2: one HMAC whose key is the salt.
        (digest, []) => {
            let found =
                hmac(digest, salt, password).ok_or_else(|| unusable("is of an unknown method"))?;
            Ok(found.ct_eq(&expected).into())
        }
        _ => Err(unusable("is of an unknown method")),
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| u8::try_from(char::from(b).to_digit(16)?).ok();
    if hex.len() > 256 || !hex.len().is_multiple_of(2) {
        return None;
    }
    hex.as_bytes()
        .chunks(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// None if the parameters are out of bounds.
fn scrypt_matches(
    (n, r, p): (u64, u32, u32),
    salt: &str,
    password: &str,
    expected: &[u8],
) -> Option<bool> {
    let memory = n.checked_mul(128 * u64::from(r))?;
    let cheap = memory <= SCRYPT_MEMORY && (1..=SCRYPT_PASSES).contains(&p);
    if !n.is_power_of_two() || n < 2 || r == 0 || !cheap {
        return None;
    }
    let params = scrypt::Params::new(u8::try_from(n.ilog2()).ok()?, r, p).ok()?;
    let mut found = [0u8; 64];
    scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &params, &mut found).ok()?;
    Some(found.as_slice().ct_eq(expected).into())
}

/// None if the digest is not known.
fn pbkdf2(digest: &str, password: &str, salt: &str, rounds: u32) -> Option<Vec<u8>> {
    let (password, salt) = (password.as_bytes(), salt.as_bytes());
    Some(match digest {
        "sha1" => pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password, salt, rounds).to_vec(),
        "sha224" => pbkdf2::pbkdf2_hmac_array::<Sha224, 28>(password, salt, rounds).to_vec(),
        "sha256" => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, rounds).to_vec(),
        "sha384" => pbkdf2::pbkdf2_hmac_array::<Sha384, 48>(password, salt, rounds).to_vec(),
        "sha512" => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, rounds).to_vec(),
        _ => return None,
    })
}

/// None if the digest is not known.
fn hmac(digest: &str, salt: &str, password: &str) -> Option<Vec<u8>> {
    fn tag<M: Mac + KeyInit>(salt: &str, password: &str) -> Option<Vec<u8>> {
        let mut mac = <M as KeyInit>::new_from_slice(salt.as_bytes()).ok()?;
        mac.update(password.as_bytes());
        Some(mac.finalize().into_bytes().to_vec())
    }
    match digest {
        "sha1" => tag::<Hmac<Sha1>>(salt, password),
        "sha224" => tag::<Hmac<Sha224>>(salt, password),
        "sha256" => tag::<Hmac<Sha256>>(salt, password),
        "sha384" => tag::<Hmac<Sha384>>(salt, password),
        "sha512" => tag::<Hmac<Sha512>>(salt, password),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// In Werkzeug's forms, from random test passwords; no gateway has them.
    const VECTORS: [(&str, &str); 9] = [
        (
            "scrypt:32768:8:1$ArFkJkuPpjtMI9B6$049180a9f5d1f615af0132e0cfc2e6e2388cbe400c1d55bdbae4e02c4913ac72c0136df2c010c4b0db2da7b5296cd757bcd7ed9199d346c09ed83bb49bd8992f",
            "Pass-wireguard-0!",
        ),
        (
            "pbkdf2:sha256:600000$TdOcIS57Bl6HSl8q$2a1ac0a0ede5c480bd966979d4a7bbda70f6157f42277d1c6721a7ac77ca661a",
            "Pass-wireguard-1!",
        ),
        (
            "pbkdf2:sha256:260000$d0NIydHHsahieHzp$6f73121ba18547657e255b10ac401dd7d1fb4c48c718dab09092f239e99cbe92",
            "Pass-wireguard-2!",
        ),
        (
            "pbkdf2:sha512:210000$CZegFzPztVmcqhcl$c83d4e1e33a85c07aae05fbf2229a7342de158aaeb03ef175b0aa249a3943338eb08ee5be7b1e0621b4186f8ca433e1367ec3075607e58b54a764d2159028b74",
            "Pass-wireguard-3!",
        ),
        (
            "scrypt:16384:8:1$9NJBpjplc9HlWfgl$c29ab38601a3b274d1b887a2cd23069a28209a687b28fff45654a3ad3363fe160784e7858b25abf6488f1057d963e08d2706abd120f3c3e0182060eb02b103e9",
            "Pass-wireguard-4!",
        ),
        (
            "sha256$abcDEF12$d36c17037717390d31273469e4d5366587cc4b8029ba5d3eda647ba317514564",
            "legacy-pass",
        ),
        (
            "pbkdf2:sha1:1000$Qz8fTnLw$ac25f784430d7a6de6de6b10a4addea9c24f23b2",
            "Pass-wireguard-5!",
        ),
        (
            "pbkdf2:sha1:150000$k3VbXe0P$0fc7eca331aefe8e0d017c3660abb2e640f005f4",
            "Pass-wireguard-6!",
        ),
        (
            "sha1$hG7sLp2d$df3976ba14914a9123e077bfea874cdbbd9ff900",
            "older-legacy",
        ),
    ];

    #[test]
    fn each_kind_of_hash_takes_its_own_password_and_no_other() {
        for (hash, password) in VECTORS {
            assert!(
                verify(hash, password).unwrap(),
                "{}",
                hash.split('$').next().unwrap()
            );
            assert!(!verify(hash, &password.to_uppercase()).unwrap());
            assert!(!verify(hash, "").unwrap());
        }
    }

    #[test]
    fn a_hash_that_names_no_rounds_is_tried_with_those_that_were_the_default() {
        for rounds in UNNAMED_ROUNDS {
            let hex: String = pbkdf2("sha256", "pw", "salt", rounds)
                .unwrap()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert!(
                verify(&format!("pbkdf2:sha256$salt${hex}"), "pw").unwrap(),
                "{rounds}"
            );
        }
    }

    #[test]
    fn hashes_of_unknown_methods_or_unbounded_cost_are_refused() {
        let zeros = "00".repeat(32);
        for method in [
            "plain",
            "md5",
            "argon2",
            "",
            "scrypt:1048576:8:1",
            "scrypt:32768:8:100",
            "scrypt:32768:4294967295:1",
            "scrypt:3:8:1",
            "scrypt:0:8:1",
            "scrypt:18446744073709551615:8:1",
            "scrypt:x:8:1",
            "scrypt:2",
            "pbkdf2:sha256:0",
            "pbkdf2:sha256:4000000000",
            "pbkdf2:md5:1000",
            "pbkdf2:sha256:1:2",
            "sha256:1",
        ] {
            assert!(
                verify(&format!("{method}$salt${zeros}"), "pw").is_err(),
                "{method}"
            );
        }
        for hash in [
            "",
            "x",
            "sha256$salt",
            "sha256$salt$",
            "sha256$salt$zz",
            "sha256$salt$abc",
            "plain$$pw",
        ] {
            assert!(verify(hash, "pw").is_err(), "{hash}");
        }
    }

    #[test]
    fn a_truncated_hash_matches_nothing() {
        let (hash, password) = VECTORS[0];
        assert!(!verify(&hash[..hash.len() - 2], password).unwrap());
    }

    #[test]
    fn problems_say_neither_hash_nor_password() {
        let said = verify("scrypt:1:1:1$SALTY$c0ffee", "hunter2")
            .unwrap_err()
            .to_string();
        assert!(
            !said.contains("c0ffee") && !said.contains("SALTY") && !said.contains("hunter2"),
            "{said}"
        );
    }
}
