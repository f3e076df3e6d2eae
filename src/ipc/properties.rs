//! What must hold for any bytes that come over a wire or out of a book. Tried by the tests beside
//! this on random bytes and by the targets in `fuzz/`; a part of no program.

use super::control::{Hello, Request, Response};
use super::scribe::{FromScribe, ToScribe};
use super::wire::ledger::Ledger;
use super::wire::{FromKeeper, RECORD_BYTES_MAX, ToKeeper};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What is understood fits a record, and means the same when it is said again.
pub fn wire(bytes: &[u8]) {
    if let Some(record) = ToKeeper::decode(bytes) {
        let said = record.encode();
        assert!(said.len() <= RECORD_BYTES_MAX);
        assert_eq!(ToKeeper::decode(&said), Some(record));
    }
    if let Some(record) = FromKeeper::decode(bytes) {
        let said = record.encode();
        assert!(said.len() <= RECORD_BYTES_MAX);
        assert_eq!(FromKeeper::decode(&said), Some(record));
    }
}

/// A book that can be read can be handed on, as often as one likes.
pub fn ledger(bytes: &[u8]) {
    if let Some(book) = Ledger::decode(bytes) {
        assert_eq!(Ledger::decode(&book.encode()), Some(book));
    }
}

/// One line of the control protocol or of the scribe's: refused, or the same when it is said again.
pub fn control(bytes: &[u8]) {
    same::<Request>(bytes);
    same::<Response>(bytes);
    same::<Hello>(bytes);
    same::<ToScribe>(bytes);
    same::<FromScribe>(bytes);
}

fn same<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    let Ok(understood) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let said = serde_json::to_string(&understood);
    assert!(said.is_ok(), "{understood:?}");
    let said = said.unwrap_or_default();
    assert!(!said.contains('\n'));
    let again = serde_json::from_str::<T>(&said).map(|again| format!("{again:?}"));
    assert_eq!(again.ok(), Some(format!("{understood:?}")));
}

#[cfg(test)]
mod tests;
