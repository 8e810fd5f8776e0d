//! The backup as a reader of the gateway's own format sees it.

use super::*;

#[test]
fn the_metadata_are_the_gateways_with_one_key_more() {
    let gateway = Gateway::new();
    let made = gateway.make().unwrap();
    let mut zip = zip::ZipArchive::new(File::open(&made.path).unwrap()).unwrap();
    let mut text = String::new();
    zip.by_name("backup_metadata.json")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut places: Vec<usize> = [
        "backup_version",
        "created_at",
        "timestamp",
        "system_info",
        "contents",
        "holdfast",
    ]
    .iter()
    .map(|k| text.find(&format!("\"{k}\":")).unwrap())
    .collect();
    assert!(places.is_sorted());
    places.dedup();
    assert_eq!(places.len(), 6);
    assert_eq!(
        value["contents"]["configs"],
        serde_json::json!(["a_00000001.conf", "b_00000002.conf"])
    );
    assert_eq!(
        made.path.file_name().unwrap().to_str().unwrap(),
        format!(
            "wireguard_backup_{}.zip",
            value["timestamp"].as_str().unwrap()
        )
    );
    let entry = &value["holdfast"]["entries"]["configs/a_00000001.conf"];
    let owner = entry["owner"].as_u64().unwrap() as usize;
    assert_eq!(value["holdfast"]["owners"][owner]["mode"], "0640");
    assert_eq!(
        entry["sha256"],
        Digest::of_bytes(Sha256::digest(config(1000)).into()).to_string()
    );
}

#[test]
fn a_reader_of_the_gateways_format_reads_it_whatever_else_is_in_it() {
    let gateway = Gateway::new();
    unusual(&gateway);
    let kept = &gateway.profile.gateway.firewall.kept[0];
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    std::fs::write(kept, b"\xff").unwrap();
    gateway.write("wireguard", "b_00000002", &config(9));
    let made = gateway.make().unwrap();
    gateway_reads(&made.path).unwrap();
}
