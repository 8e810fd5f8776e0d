//! Metadata read in one go, and against their schema. Owns how that is done without a tree of all of them in memory: what has
//! a member for each entry is read as what it is, what nobody knows is passed over, and of the rest no more is kept than a
//! manifest of a gateway has. Must not know what metadata mean.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value, json};

use super::{EntryFacts, fit};

const SCHEMA: &str = include_str!("../../../schema/backup_metadata.schema.json");
/// The most values of the tree, each some hundred bytes besides its text.
const VALUES: usize = 500_000;
/// What is listed and is no entry, which is named, may be so many: what is beyond takes memory for nothing.
const MORE: usize = 1000;
/// Letters of a name.
const LETTERS: usize = 255;
/// A few problems say enough.
const SAID: usize = 5;

/// What was read. In the tree what has a member for each entry is empty.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) value: Value,
    pub(super) large: Large,
    schema: Value,
}

/// What has a member for each entry, in the order of the text.
#[derive(Debug, Default)]
pub(super) struct Large {
    /// `contents.configs`.
    pub(super) configs: Option<Vec<String>>,
    /// `holdfast.entries`.
    pub(super) entries: Vec<(String, EntryFacts)>,
    /// `holdfast.wireguard`.
    pub(super) wireguard: Vec<(String, usize)>,
}

impl Outline {
    /// Reads JSON: that of an archive with so many entries.
    pub(super) fn read(bytes: &[u8], entries: usize) -> Result<Outline, String> {
        Outline::of(bytes, Some(entries))
    }

    /// Reads nothing but what says of which version it is.
    pub(super) fn versions(bytes: &[u8]) -> Result<Value, String> {
        Outline::of(bytes, None).map(|outline| outline.value)
    }

    fn of(bytes: &[u8], entries: Option<usize>) -> Result<Outline, String> {
        let schema: Value =
            serde_json::from_str(SCHEMA).map_err(|e| format!("its schema is not JSON: {e}"))?;
        let mut reading = Reading {
            schema: &schema,
            versions: entries.is_none(),
            most: entries.unwrap_or_default().saturating_add(MORE),
            left: VALUES,
            large: Large::default(),
        };
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let value = At(SchemaPlace::Root, &mut reading)
            .deserialize(&mut reader)
            .and_then(|value| reader.end().map(|()| value))
            .map_err(|e| match e.is_data() {
                true => e.to_string().escape_debug().to_string(),
                false => format!("it is not JSON: {e}"),
            })?;
        Ok(Outline {
            value,
            large: reading.large,
            schema,
        })
    }

    /// What does not fit the schema, a sentence each.
    pub(super) fn against_schema(&self) -> Result<Vec<String>, String> {
        fit::misfits(&self.schema, &self.value, SAID)
            .map_err(|e| format!("its schema is not one: {e}"))
    }
}

/// What goes on while metadata are read.
struct Reading<'s> {
    schema: &'s Value,
    /// Nothing else is wanted.
    versions: bool,
    /// Members of what has one for each entry.
    most: usize,
    /// Values that may still come into the tree.
    left: usize,
    large: Large,
}

/// Where in the metadata a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SchemaPlace {
    Root,
    Contents,
    Manifest,
    /// Where nothing is large.
    Within,
}

impl SchemaPlace {
    /// Whether a member of this name is one that the schema knows.
    fn knows(self, key: &str, reading: &Reading<'_>) -> bool {
        let object = match self {
            SchemaPlace::Root => &reading.schema["properties"],
            SchemaPlace::Contents => &reading.schema["properties"]["contents"]["properties"],
            SchemaPlace::Manifest => &reading.schema["definitions"]["manifest"]["properties"],
            SchemaPlace::Within => return true,
        };
        let wanted = !reading.versions || ["backup_version", "holdfast", "format"].contains(&key);
        wanted && object.get(key).is_some()
    }
}

/// A value at a place.
struct At<'r, 's>(SchemaPlace, &'r mut Reading<'s>);

impl<'de> DeserializeSeed<'de> for At<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.1.left = self.1.left.checked_sub(1).ok_or_else(|| {
            de::Error::custom(format!(
                "it holds over {VALUES} values besides those of its entries"
            ))
        })?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let At(place, reading) = self;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if !place.knows(&key, reading) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let (large, most) = (&mut reading.large, reading.most);
            let value = match (place, key.as_str()) {
                (SchemaPlace::Root, "contents") => {
                    members.next_value_seed(At(SchemaPlace::Contents, reading))?
                }
                (SchemaPlace::Root, "holdfast") => {
                    members.next_value_seed(At(SchemaPlace::Manifest, reading))?
                }
                (SchemaPlace::Contents, "configs") => {
                    members.next_value_seed(NameList(
                        "/contents/configs",
                        large.configs.get_or_insert_default(),
                        most,
                    ))?;
                    json!([])
                }
                (SchemaPlace::Manifest, "entries") => {
                    members.next_value_seed(Each("/holdfast/entries", &mut large.entries, most))?;
                    json!({})
                }
                (SchemaPlace::Manifest, "wireguard") => {
                    let mut places: Vec<(String, u16)> = Vec::new();
                    members.next_value_seed(Each("/holdfast/wireguard", &mut places, most))?;
                    let places = places.into_iter();
                    large.wireguard = places.map(|(name, at)| (name, at.into())).collect();
                    json!({})
                }
                _ => members.next_value_seed(At(SchemaPlace::Within, reading))?,
            };
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("it says {key} twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(At(SchemaPlace::Within, self.1))? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A list of names, where it stands, and how many it may have.
struct NameList<'l>(&'static str, &'l mut Vec<String>, usize);

impl<'de> DeserializeSeed<'de> for NameList<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let place = self.0;
        from.deserialize_seq(self)
            .map_err(|e| said_at(place, None, &e))
    }
}

impl<'de> Visitor<'de> for NameList<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let NameList(place, names, most) = self;
        loop {
            let at = |e: &dyn fmt::Display| said_at(place, Some(&names.len().to_string()), e);
            match items.next_element::<String>().map_err(|e| at(&e))? {
                None => return Ok(()),
                Some(name) if name.is_empty() || name.chars().count() > LETTERS => {
                    return Err(at(&format!("no name has no letters, or over {LETTERS}")));
                }
                Some(_) if names.len() == most => return Err(too_many(place, most)),
                Some(name) => names.push(name),
            }
        }
    }
}

/// An object with any names, where it stands, and how many it may have.
struct Each<'l, T>(&'static str, &'l mut Vec<(String, T)>, usize);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Each<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let place = self.0;
        from.deserialize_map(self)
            .map_err(|e| said_at(place, None, &e))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<'_, T> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Each(place, all, most) = self;
        while let Some(name) = members.next_key::<String>()? {
            let value = members
                .next_value()
                .map_err(|e: A::Error| said_at(place, Some(&name), &e))?;
            if all.len() == most {
                return Err(too_many(place, most));
            }
            all.push((name, value));
        }
        Ok(())
    }
}

fn too_many<E: de::Error>(place: &str, most: usize) -> E {
    let why = format!("it has over {most} members, far more than the backup has entries");
    said_at(place, None, &why)
}

/// An error with its place before it, once.
fn said_at<E: de::Error>(place: &str, member: Option<&str>, e: &dyn fmt::Display) -> E {
    let why = e.to_string();
    if why.starts_with("at /") {
        return E::custom(why);
    }
    let member = member.map_or(String::new(), |m| {
        format!("/{}", m.replace('~', "~0").replace('/', "~1"))
    });
    E::custom(format!("at {place}{member}: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Metadata with so many entries, the last of them with this size.
    fn metadata(entries: usize, last: &Value) -> Vec<u8> {
        let entry = |i| {
            let size = if i + 1 == entries { last } else { &json!(1) };
            let facts = json!({ "size": size, "sha256": "0".repeat(64), "owner": 0 });
            (format!("configs/{i}.conf"), facts)
        };
        let all: Map<String, Value> = (0..entries).map(entry).collect();
        let value = json!({
            "backup_version": "1.0",
            "created_at": "2026-11-22T18:52:20.618214+00:00",
            "contents": { "databases": [], "configs": ["0.conf"], "iptables_rules": [] },
            "holdfast": {
                "format": 1, "program": "holdfast 0.1.0", "ip_forward": null, "tunnels_up": [],
                "owners": [], "entries": all, "wireguard": { "0.conf": 7 }, "unknown": [[], {}, [1, 2]],
            },
        });
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn what_has_a_member_for_each_entry_is_read_and_checked_and_is_not_in_the_tree() {
        let outline = Outline::read(&metadata(2000, &json!(9)), 2000).unwrap();
        assert_eq!(outline.against_schema().unwrap(), [""; 0]);
        assert_eq!(outline.large.entries.len(), 2000);
        assert!(outline.large.entries.iter().any(|(_, e)| e.size == 9));
        assert_eq!(outline.large.wireguard, [("0.conf".to_owned(), 7)]);
        assert_eq!(outline.large.configs.unwrap(), ["0.conf"]);
        assert_eq!(outline.value["holdfast"]["entries"], json!({}));
        assert_eq!(outline.value["holdfast"].get("unknown"), None);
        let said = Outline::read(&metadata(2000, &json!("x")), 2000).unwrap_err();
        let place = "at /holdfast/entries/configs~11999.conf: size: ";
        assert!(said.starts_with(place), "{said}");
    }

    #[test]
    fn what_is_large_where_nothing_is_large_ends_early() {
        let many = |n: usize| {
            let list = vec!["0"; n].join(",");
            format!(
                "{{\"contents\": {{\"databases\": [{list}]}}, \"x\": [{list}], \"holdfast\": 1}}"
            )
        };
        assert!(Outline::read(many(VALUES - 10).as_bytes(), 0).is_ok());
        let said = Outline::read(many(VALUES + 10).as_bytes(), 2000).unwrap_err();
        assert!(
            said.contains("values besides those of its entries"),
            "{said}"
        );
    }

    #[test]
    fn what_lists_far_more_than_there_is_ends_early() {
        let names = |n: usize| vec!["\"a\""; n].join(",");
        let places = |n: usize| vec!["\"a\":0"; n].join(",");
        let read = |text: String| Outline::read(text.as_bytes(), 7).map(drop);
        for n in [7 + MORE, 7 + MORE + 1] {
            let configs = read(format!("{{\"contents\": {{\"configs\": [{}]}}}}", names(n)));
            let wireguard = read(format!(
                "{{\"holdfast\": {{\"wireguard\": {{{}}}}}}}",
                places(n)
            ));
            for read in [configs, wireguard] {
                assert_eq!(read.is_ok(), n == 7 + MORE, "{read:?}");
            }
        }
    }

    #[test]
    fn the_large_ones_in_the_schema_are_what_is_read_by_itself() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        for (key, members) in [("entries", "entry"), ("wireguard", "place")] {
            let large = &schema["definitions"]["manifest"]["properties"][key];
            let of = format!("#/definitions/{members}");
            assert_eq!(large["additionalProperties"]["$ref"], of, "{key}");
        }
        let entry = schema["definitions"]["entry"]["properties"].as_object();
        let known: Vec<&String> = entry.unwrap().keys().collect();
        assert_eq!(known, ["owner", "sha256", "size"]);
        assert_eq!(schema["definitions"]["place"]["maximum"], u16::MAX);
        let names = &schema["definitions"]["names"]["items"];
        assert_eq!(
            (&names["minLength"], &names["maxLength"]),
            (&json!(1), &json!(LETTERS))
        );
    }
}
