//! The rules of the house, as tests that read the source tree.
//!
//! Each rule is a checker over text or tokens that returns complaints; it is run over the tree, and
//! over small samples that break the rule, so that a checker gone blind is noticed. A complaint
//! says where, what, and what to do instead.
//!
//! Called by `cargo test` only. Reads the tree, never writes to it, never asks the network.

mod dependencies;
mod imports;
mod keeper;
mod patience;
mod place;
mod rust;
mod shape;
pub mod tree;
mod unsafety;

/// Fails with every complaint on its own line.
#[track_caller]
fn no_complaints(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// A checker that finds nothing in a sample made to break its rule has gone blind.
#[track_caller]
fn complains(complaints: &[String], words: &str) {
    assert!(
        complaints.iter().any(|complaint| complaint.contains(words)),
        "expected a complaint about `{words}`, got {complaints:?}"
    );
}
