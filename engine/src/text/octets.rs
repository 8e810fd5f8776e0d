//! Any bytes as text, and the same bytes again: what other programs print of the kernel need not be UTF-8, and must go back
//! as it was. Used where such bytes come in and go out; in between they are a `String`. Pure.
//!
//! A byte that is no part of UTF-8 stands as a character of a range that nobody uses; a genuine character of that range is
//! taken byte by byte, too, so that each text comes of one sequence of bytes alone.

use std::borrow::Cow;
use std::fmt::Write;

/// Stands for byte 0; in a private plane, behind everything that anybody is known to use.
const FIRST: u32 = 0x10_FE00;
const STANDS_FOR_A_BYTE: std::ops::RangeInclusive<char> = '\u{10FE80}'..='\u{10FEFF}';

fn stands_for(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn stands(c: char) -> bool {
    STANDS_FOR_A_BYTE.contains(&c)
}

fn byte_of(c: char) -> Option<u8> {
    let offset = u32::from(c).wrapping_sub(FIRST);
    u8::try_from(offset).ok().filter(|_| stands(c))
}

/// These bytes as text.
pub fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if stands(c) {
                let mut buffer = [0; 4];
                out.extend(c.encode_utf8(&mut buffer).bytes().map(stands_for));
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().copied().map(stands_for));
    }
    out
}

/// The bytes that [`text`] made this of.
pub fn bytes(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(stands) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(out)
}

/// The text for a person: a byte that is no part of UTF-8 as `\xfc`.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(stands) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            // Writing to a string does not fail.
            Some(byte) => drop(write!(out, "\\x{byte:02x}")),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_that_is_no_utf8_is_kept_and_shown_as_what_it_is() {
        let latin = b"-A FORWARD -m comment --comment \"L\xfcbeck\" -j ACCEPT\n";
        let read = text(latin);
        assert_eq!(*bytes(&read), latin[..]);
        assert_eq!(
            shown(&read),
            "-A FORWARD -m comment --comment \"L\\xfcbeck\" -j ACCEPT\n"
        );
        for plain in ["", "Lübeck → 東京\u{10FFFF}", "\u{FFFD}"] {
            assert_eq!(text(plain.as_bytes()), plain);
            assert_eq!(shown(plain), plain);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn any_bytes_come_back_as_they_were(all in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = text(&all);
            prop_assert_eq!(&*bytes(&read), &all[..]);
        }

        #[test]
        fn so_do_characters_of_the_range_itself_and_pieces_of_them(
            pieces in prop::collection::vec((0x10_FE70_u32..0x10_FF10, 0_usize..5), 0..20),
        ) {
            let mut all = Vec::new();
            for (c, keep) in pieces {
                let c = char::from_u32(c).unwrap_or('x').to_string();
                all.extend_from_slice(&c.as_bytes()[..keep.min(c.len())]);
            }
            let read = text(&all);
            prop_assert_eq!(&*bytes(&read), &all[..]);
            prop_assert_eq!(text(&bytes(&read)), read);
        }
    }
}
