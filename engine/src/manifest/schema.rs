//! Metadata against their schema. Owns how that is done without all of them in memory as a tree: what has a member for each
//! entry is checked in portions, which are dropped. Must not know what metadata mean.

use std::fmt;

use jsonschema::Validator;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value, json};

const SCHEMA: &str = include_str!("../../schema/backup_metadata.schema.json");
/// The object that has maps with thousands of members, its definition, and these maps.
const PARENT: &str = "holdfast";
const DEFINITION: &str = "manifest";
const LARGE: [&str; 2] = ["entries", "wireguard"];
/// Members that are in memory at once.
const PORTION: usize = 512;
/// A few problems say enough.
const SAID: usize = 5;

/// What was read, but for the members of the large maps that were checked already.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) value: Value,
    /// What does not fit the schema in what is left out, a sentence each.
    found: Vec<String>,
}

impl Outline {
    /// Reads JSON.
    pub(super) fn read(bytes: &[u8]) -> Result<Outline, String> {
        let mut found = Vec::new();
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let value = At::Root(&mut found)
            .deserialize(&mut reader)
            .and_then(|value| reader.end().map(|()| value))
            .map_err(|e| format!("it is not JSON: {e}"))?;
        Ok(Outline { value, found })
    }

    /// What does not fit the schema, a sentence each.
    pub(super) fn against_schema(mut self) -> Result<Vec<String>, String> {
        let rest = validator(&parsed()?)?;
        self.found.extend(sentences(&rest, &self.value, ""));
        self.found.truncate(SAID);
        Ok(self.found)
    }
}

fn parsed() -> Result<Value, String> {
    serde_json::from_str(SCHEMA).map_err(|e| format!("its schema is not JSON: {e}"))
}

fn validator(schema: &Value) -> Result<Validator, String> {
    jsonschema::validator_for(schema).map_err(|e| format!("its schema is not one: {e}"))
}

/// Of an object that has nothing but this large map.
fn validator_of(key: &str) -> Result<Validator, String> {
    let whole = parsed()?;
    let properties = &whole["definitions"][DEFINITION]["properties"];
    validator(&json!({
        "$schema": whole["$schema"],
        "definitions": whole["definitions"],
        "properties": { key: properties[key] },
    }))
}

fn sentences(validator: &Validator, value: &Value, above: &str) -> Vec<String> {
    let errors = validator.iter_errors(value).take(SAID);
    errors
        .map(|e| {
            let place = format!("{above}{}", e.instance_path);
            let place = if place.is_empty() {
                "the whole"
            } else {
                &place
            };
            let why: String = e.masked().to_string().chars().take(200).collect();
            format!("at {}: {}", place.escape_debug(), why.escape_debug())
        })
        .collect()
}

/// Where in the metadata a value stands.
enum At<'f> {
    Root(&'f mut Vec<String>),
    Parent(&'f mut Vec<String>),
    Large(&'static str, &'f mut Vec<String>),
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl At<'_> {
    /// The members of a large map in portions: what of each does not fit is noted, and only the last is kept.
    fn portions<'de, A: MapAccess<'de>>(
        key: &str,
        found: &mut Vec<String>,
        mut members: A,
    ) -> Result<Value, A::Error> {
        let validator = validator_of(key).map_err(de::Error::custom)?;
        let mut portion = Map::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            portion.insert(name, value);
            if portion.len() == PORTION {
                let checked = json!({ key: std::mem::take(&mut portion) });
                if found.len() < SAID {
                    found.extend(sentences(&validator, &checked, &format!("/{PARENT}")));
                }
            }
        }
        Ok(Value::Object(portion))
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        match self {
            At::Large(key, found) => return At::portions(key, found, members),
            At::Root(found) => {
                while let Some(key) = members.next_key::<String>()? {
                    let value = match key == PARENT {
                        true => members.next_value_seed(At::Parent(found))?,
                        false => members.next_value()?,
                    };
                    map.insert(key, value);
                }
            }
            At::Parent(found) => {
                while let Some(key) = members.next_key::<String>()? {
                    let value = match LARGE.into_iter().find(|large| *large == key) {
                        Some(large) => members.next_value_seed(At::Large(large, found))?,
                        None => members.next_value()?,
                    };
                    map.insert(key, value);
                }
            }
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Value, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(items))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_schema_is_a_schema_and_has_the_large_maps_where_they_are_looked_for() {
        let schema = parsed().unwrap();
        assert!(jsonschema::meta::is_valid(&schema));
        assert_eq!(
            schema["properties"][PARENT]["$ref"],
            format!("#/definitions/{DEFINITION}")
        );
        for key in LARGE {
            let large = &schema["definitions"][DEFINITION]["properties"][key];
            assert_eq!(large["type"], "object", "{key}");
        }
    }

    /// Metadata with so many entries, the last of them with this size.
    fn metadata(entries: usize, last: &Value) -> Vec<u8> {
        let entry = |i| {
            let size = if i + 1 == entries { last } else { &Value::Null };
            let size = if size.is_null() { &json!(1) } else { size };
            let facts = json!({ "size": size, "sha256": "0".repeat(64), "owner": 0 });
            (format!("configs/{i}.conf"), facts)
        };
        let all: Map<String, Value> = (0..entries).map(entry).collect();
        let value = json!({
            "backup_version": "1.0",
            "created_at": "2026-11-22T18:52:20.618214+00:00",
            "contents": { "databases": [], "configs": [], "iptables_rules": [] },
            "holdfast": {
                "format": 1, "program": "holdfast 0.1.0", "ip_forward": null, "tunnels_up": [],
                "owners": [], "entries": all, "wireguard": {},
            },
        });
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn every_member_of_a_large_map_is_checked_in_whichever_portion_it_stands() {
        for entries in [1, PORTION - 1, PORTION, PORTION + 1, 3 * PORTION + 7] {
            let good = Outline::read(&metadata(entries, &json!(7))).unwrap();
            assert_eq!(good.against_schema().unwrap(), [""; 0]);
            let bad = Outline::read(&metadata(entries, &json!("x"))).unwrap();
            let said = bad.against_schema().unwrap();
            let place = format!("at /holdfast/entries/configs~1{}.conf/size: ", entries - 1);
            assert!(said.len() == 1 && said[0].starts_with(&place), "{said:?}");
        }
    }

    #[test]
    fn no_more_than_a_portion_is_kept() {
        let outline = Outline::read(&metadata(3 * PORTION + 7, &Value::Null)).unwrap();
        let kept = outline.value["holdfast"]["entries"].as_object().unwrap();
        assert!(kept.len() <= PORTION);
    }
}
