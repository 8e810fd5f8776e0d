#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn a_request_names_its_restore_and_another_request_another() {
    let a = RequestId::new("00112233445566778899aabbccddeeff").unwrap();
    let b = RequestId::new("00112233445566778899aabbccddeefe").unwrap();
    assert_eq!(suffix(&a), suffix(&a));
    assert_ne!(suffix(&a), suffix(&b));
    let id = state_dir::id_at(1_795_373_540_000, suffix(&a)).unwrap();
    assert!(id.as_str().ends_with(&format!("-{:08x}", suffix(&a))));
}
