//! Whether a value fits the published schema. Owns the keywords that this schema uses, and no others: a schema with another
//! keyword fits nothing, so that it never asks for what nobody checks. The tests compare the answers with those of a library
//! for JSON schemas. Must not know what metadata mean.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex_automata::dfa::regex::Regex;
use serde_json::Value;

/// What does not fit, so many sentences at most, each with its place. The error says what is wrong with the schema.
pub(super) fn misfits(schema: &Value, value: &Value, most: usize) -> Result<Vec<String>, String> {
    let mut check = Check::of(schema, most);
    check.value(schema, value)?;
    let found = check.found.into_iter();
    Ok(found.map(|m| format!("at {}: {}", m.at, m.why)).collect())
}

/// One thing that does not fit.
struct Misfit {
    at: String,
    why: String,
}

struct Check<'s> {
    whole: &'s Value,
    most: usize,
    /// Where the value stands that is looked at.
    place: String,
    /// Each pattern is made once: a backup has thousands of owners.
    patterns: BTreeMap<&'s str, Regex>,
    found: Vec<Misfit>,
}

impl<'s> Check<'s> {
    fn of(whole: &'s Value, most: usize) -> Check<'s> {
        Check {
            whole,
            most,
            place: String::new(),
            patterns: BTreeMap::new(),
            found: Vec::new(),
        }
    }

    fn value(&mut self, schema: &'s Value, value: &Value) -> Result<(), String> {
        let keywords = schema.as_object().ok_or("a part of it is no object")?;
        for (keyword, asked) in keywords {
            if self.found.len() == self.most {
                return Ok(());
            }
            if let Some(why) = self.keyword(schema, keyword, asked, value)? {
                let at = match self.place.as_str() {
                    "" => "the whole".to_owned(),
                    place => place.escape_debug().to_string(),
                };
                self.found.push(Misfit { at, why });
            }
        }
        Ok(())
    }

    /// Why the value is not as one keyword asks. What is in it says so for itself.
    fn keyword(
        &mut self,
        schema: &'s Value,
        keyword: &str,
        asked: &'s Value,
        value: &Value,
    ) -> Result<Option<String>, String> {
        Ok(match keyword {
            "$schema" | "title" | "description" | "definitions" => None,
            "$ref" => {
                self.value(self.definition(asked)?, value)?;
                None
            }
            "type" => {
                let mut is_one = false;
                for kind in one_or_more(asked) {
                    is_one |= is_a(kind, value)?;
                }
                (!is_one).then(|| format!("it is not of the type {asked}"))
            }
            "const" => (value != asked).then(|| format!("it is not {asked}")),
            "enum" => (!list(asked)?.contains(value)).then(|| format!("it is none of {asked}")),
            "pattern" => {
                let fits = match value.as_str() {
                    Some(text) => self.pattern(asked)?.is_match(text),
                    None => true,
                };
                (!fits).then(|| format!("it does not match {asked}"))
            }
            "minLength" | "minimum" => {
                let least = number(asked)?;
                let below = measure(keyword, value).is_some_and(|n| n < least);
                below.then(|| format!("it has less than the {keyword} {asked}"))
            }
            "maxLength" | "maximum" | "maxItems" | "maxProperties" => {
                let most = number(asked)?;
                let above = measure(keyword, value).is_some_and(|n| n > most);
                above.then(|| format!("it has more than the {keyword} {asked}"))
            }
            "required" => {
                let mut lacks = Vec::new();
                for key in list(asked)? {
                    let key = key.as_str().ok_or("it requires what is no name")?;
                    if value.as_object().is_some_and(|o| !o.contains_key(key)) {
                        lacks.push(key);
                    }
                }
                (!lacks.is_empty()).then(|| format!("it lacks {}", lacks.join(", ")))
            }
            "properties" => {
                for (key, schema) in asked.as_object().ok_or("its properties are no object")? {
                    if let Some(member) = value.get(key) {
                        self.within(key, schema, member)?;
                    }
                }
                None
            }
            "additionalProperties" => {
                for (key, member) in value.as_object().into_iter().flatten() {
                    if schema["properties"].get(key).is_none() {
                        self.within(key, asked, member)?;
                    }
                }
                None
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.within(&at.to_string(), asked, item)?;
                }
                None
            }
            other => return Err(format!("nothing here checks its keyword {other}")),
        })
    }

    fn within(&mut self, key: &str, schema: &'s Value, value: &Value) -> Result<(), String> {
        let outside = self.place.len();
        let key = key.replace('~', "~0").replace('/', "~1");
        let _ = write!(self.place, "/{key}");
        self.value(schema, value)?;
        self.place.truncate(outside);
        Ok(())
    }

    fn definition(&self, asked: &Value) -> Result<&'s Value, String> {
        let pointer = asked.as_str().and_then(|place| place.strip_prefix('#'));
        let found = pointer.and_then(|place| self.whole.pointer(place));
        found.ok_or_else(|| format!("it has no {asked}"))
    }

    fn pattern(&mut self, asked: &'s Value) -> Result<&Regex, String> {
        let text = asked.as_str().ok_or("a pattern is no text")?;
        if !self.patterns.contains_key(text) {
            let made = Regex::new(text).map_err(|e| format!("its pattern {asked}: {e}"))?;
            self.patterns.insert(text, made);
        }
        Ok(&self.patterns[text])
    }
}

/// What a bound is about; none where it says nothing of such a value.
fn measure(keyword: &str, value: &Value) -> Option<f64> {
    let count = match (keyword, value) {
        ("minLength" | "maxLength", Value::String(text)) => text.chars().count(),
        ("maxItems", Value::Array(items)) => items.len(),
        ("maxProperties", Value::Object(members)) => members.len(),
        ("minimum" | "maximum", Value::Number(number)) => return number.as_f64(),
        _ => return None,
    };
    // Far below where a count has no f64 of its own.
    Some(count as f64)
}

fn one_or_more(asked: &Value) -> &[Value] {
    asked
        .as_array()
        .map_or(std::slice::from_ref(asked), Vec::as_slice)
}

fn is_a(kind: &Value, value: &Value) -> Result<bool, String> {
    Ok(match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        // The specification also takes 1.0, which no field of the metadata does.
        Some("integer") => value.is_i64() || value.is_u64(),
        _ => return Err(format!("nothing here knows its type {kind}")),
    })
}

fn list(asked: &Value) -> Result<&Vec<Value>, String> {
    asked
        .as_array()
        .ok_or_else(|| format!("{asked} is no list"))
}

fn number(asked: &Value) -> Result<f64, String> {
    asked
        .as_f64()
        .ok_or_else(|| format!("{asked} is no number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = include_str!("../../../schema/backup_metadata.schema.json");

    /// Metadata with every property that the schema knows.
    fn everything() -> Value {
        json!({
            "backup_version": "1.0", "created_at": "2026-11-22T18:52:20.618214+00:00", "timestamp": "t",
            "system_info": { "platform": "posix", "instance_path": "/opt" },
            "contents": { "databases": ["a.db"], "configs": ["a.conf"], "iptables_rules": ["v4"] },
            "holdfast": {
                "format": 2, "program": "holdfast 0.1.0", "kind": "by-hand", "host": "gw", "ip_forward": true, "tunnels_up": ["a"],
                "owners": [{ "uid": 1, "gid": 2, "user": "u", "group": "g", "mode": "0640" }],
                "entries": { "a/~b": { "size": 1, "sha256": "0".repeat(64), "owner": 0 } },
                "wireguard": { "a.conf": 0 }, "left_out": ["b"], "parts": { "configs": { "is": "saved-raw", "why": "w" } },
                "ipv6_forward": false, "peers": { "a": {} }, "links": { "a": "b" }, "unpaired": ["c"],
                "beyond": ["d"], "warnings": ["e"],
            },
        })
    }

    /// What may stand anywhere: each kind, and both sides of each bound in the schema.
    fn values() -> Vec<Value> {
        let mut values = vec![
            json!(null),
            json!(true),
            json!({}),
            json!([]),
            json!([null]),
            json!({ "a": null }),
        ];
        let lengths = [
            0, 1, 3, 4, 5, 15, 16, 63, 64, 65, 128, 129, 255, 256, 1024, 1025, 4096, 4097, 16384,
            16385,
        ];
        for letter in ["0", "7", "f", "A", "\u{fc}"] {
            values.extend(lengths.map(|n| json!(letter.repeat(n))));
        }
        let forms = [
            "1.0",
            "1.1",
            "saved",
            "saved-raw",
            "not-there",
            "not-saved",
            "0640\n",
            "0648",
            "a b",
            "../x",
            "=+.-_",
            "2026-11-22T18:52:20",
            "2026-11-22T18:52:20Z",
            "2026-11-22T18:52:20.Z",
            "2026-11-22 18:52:20",
            "2026-11-22T18:52:20.123456789-01:30",
            "2026-11-22T18:52:20.1234567890Z",
            "x2026-11-22T18:52:20",
        ];
        values.extend(forms.map(|text| json!(text)));
        values.extend(
            [
                -1_i64,
                0,
                1,
                2,
                3,
                65_535,
                65_536,
                4_294_967_294,
                4_294_967_295,
            ]
            .map(|n| json!(n)),
        );
        values.extend([json!(u64::MAX), json!(i64::MIN), json!(1.5), json!(-0.5)]);
        let members = |n: usize| (0..n).map(|i| (i.to_string(), json!({ "is": "saved" })));
        values.extend([1000, 1001].map(|n| Value::Object(members(n).collect())));
        values
    }

    /// Every place in a value, the whole first.
    fn places(value: &Value) -> Vec<String> {
        let mut places = vec![String::new()];
        let members: Vec<(String, &Value)> = match value {
            Value::Object(all) => all.iter().map(|(k, v)| (k.clone(), v)).collect(),
            Value::Array(all) => all
                .iter()
                .enumerate()
                .map(|(i, v)| (i.to_string(), v))
                .collect(),
            _ => Vec::new(),
        };
        for (key, member) in members {
            let key = key.replace('~', "~0").replace('/', "~1");
            places.extend(
                self::places(member)
                    .into_iter()
                    .map(|within| format!("/{key}{within}")),
            );
        }
        places
    }

    /// What each says does not fit, by its place.
    fn both(schema: &Value, library: &jsonschema::Validator, value: &Value) -> [Vec<String>; 2] {
        let mut check = Check::of(schema, usize::MAX);
        check.value(schema, value).unwrap();
        let mut ours: Vec<String> = check
            .found
            .into_iter()
            .map(|m| m.at.replace("the whole", ""))
            .collect();
        let mut theirs: Vec<String> = library
            .iter_errors(value)
            .map(|e| e.instance_path.to_string())
            .collect();
        for said in [&mut ours, &mut theirs] {
            said.sort();
            // One that lacks two members is said once here, twice there.
            said.dedup();
        }
        [ours, theirs]
    }

    #[test]
    fn what_fits_is_what_a_library_for_json_schemas_says_fits_wherever_any_value_stands() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let library = jsonschema::validator_for(&schema).unwrap();
        let good = everything();
        assert_eq!(both(&schema, &library, &good), [[""; 0]; 2]);
        let (mut fit, mut misfit) = (0, 0);
        let mut compare = |value: &Value, place: &str| {
            let [ours, theirs] = both(&schema, &library, value);
            assert_eq!(
                ours,
                theirs,
                "{place}: {}",
                value.pointer(place).unwrap_or(&Value::Null)
            );
            *if ours.is_empty() {
                &mut fit
            } else {
                &mut misfit
            } += 1;
        };
        let owner = &good["holdfast"]["owners"][0];
        let many_owners = [65_536, 65_537].map(|n| json!(vec![owner; n]));
        for place in places(&good) {
            let owners = (place == "/holdfast/owners").then(|| many_owners.clone());
            for other in values().into_iter().chain(owners.into_iter().flatten()) {
                let mut value = good.clone();
                *value.pointer_mut(&place).unwrap() = other;
                compare(&value, &place);
            }
            let (around, key) = place.rsplit_once('/').unwrap_or_default();
            let mut value = good.clone();
            if let Some(Value::Object(members)) = value.pointer_mut(around) {
                members.remove(&key.replace("~1", "/").replace("~0", "~"));
                compare(&value, &place);
            }
        }
        assert!(fit > 500 && misfit > 5000, "{fit} fit, {misfit} do not");
    }

    #[test]
    fn the_comparison_sees_every_property_of_the_schema() {
        fn known(schema: &Value, names: &mut Vec<String>) {
            for (key, part) in schema.as_object().into_iter().flatten() {
                if key == "properties" {
                    names.extend(part.as_object().unwrap().keys().cloned());
                }
                known(part, names);
            }
        }
        let mut names = Vec::new();
        known(&serde_json::from_str(SCHEMA).unwrap(), &mut names);
        let places = places(&everything());
        for name in names {
            assert!(
                places.iter().any(|p| p.ends_with(&format!("/{name}"))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_schema_that_asks_for_what_nobody_checks_fits_nothing() {
        for schema in [
            json!({ "not": {} }),
            json!({ "items": { "uniqueItems": true } }),
            json!({ "type": "number" }),
            json!({ "$ref": "#/definitions/none" }),
            json!({ "pattern": "(" }),
            json!({ "maxLength": "9" }),
            json!(true),
        ] {
            let found = misfits(&schema, &json!(["a"]), 5);
            let found = found.and_then(|_| misfits(&schema, &json!("a"), 5));
            assert!(found.is_err(), "{schema}: {found:?}");
        }
    }
}
