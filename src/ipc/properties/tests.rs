//! Random bytes, and requests with something wrong about them.

use super::*;
use proptest::prelude::*;

fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4);
    (changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(changes, end, cut)| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_on_a_wire_or_in_a_book(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0u8..20) {
        wire(&bytes);
        wire(&[&[tag], &bytes[..]].concat());
        ledger(&bytes);
        // Behind a head that is right: a tag, and a length.
        let length = u16::try_from(bytes.len()).expect("short").to_le_bytes();
        ledger(&[&b"outlast book\x01\0\x01\0"[..], &length, &[tag % 6], &bytes].concat());
    }

    #[test]
    fn any_line_of_the_control_protocol(
        request in mutated(r#"{"v":1,"id":7,"verb":"restart","names":["web","db*"],"wait":true,"timeout_ms":5}"#),
        response in mutated(r#"{"v":1,"id":7,"ok":false,"error":{"code":"ended","message":"a"},"services":[]}"#),
        hello in mutated(r#"{"outlast":1,"version":"0.1.0","pid":12}"#),
        any in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        for line in [&request, &response, &hello, &any] {
            control(line);
        }
    }
}
