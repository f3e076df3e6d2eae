//! `unsafe` lives in one room, `sys`, and each use of it says what contract it relies on.

use super::rust::{self, Kind, Token};
use super::{complains, no_complaints, tree};

fn in_sys(path: &str) -> bool {
    path == "src/sys.rs" || path.starts_with("src/sys/")
}

fn check(path: &str, source: &str) -> Vec<String> {
    let code = rust::code(source);
    let mut complaints = Vec::new();
    for token in code.iter().filter(|token| token.is("unsafe")) {
        let at = format!("{path}:{}", token.line);
        if !in_sys(path) {
            complaints.push(format!(
                "{at}: unsafe outside src/sys.rs; give sys a safe function for it"
            ));
        } else if !argued(source, token.line) {
            complaints.push(format!(
                "{at}: unsafe without a `SAFETY:` comment directly above"
            ));
        }
    }
    if !in_sys(path) && path != "src/lib.rs" && allows_unsafe(&code) {
        complaints.push(format!(
            "{path}: allows unsafe_code; only src/lib.rs may, for sys"
        ));
    }
    complaints
}

/// The comment directly above the statement that holds this line, or the line itself.
fn argued(source: &str, line: usize) -> bool {
    let lines: Vec<&str> = source.lines().collect();
    let mut at = line - 1;
    // A statement may begin some lines above its `unsafe`.
    while at > 0 && continues(lines[at - 1]) {
        at -= 1;
    }
    let above = lines[..at].iter().rev().map(|text| text.trim());
    let mut comment = above.take_while(|text| text.starts_with("//") || text.starts_with("#["));
    comment.any(|text| text.contains("SAFETY:") || text.contains("# Safety"))
}

fn continues(text: &str) -> bool {
    let text = text.trim();
    let comment = text.starts_with("//") || text.starts_with("#[");
    !text.is_empty() && !comment && !text.ends_with([';', '{', '}', ','])
}

fn allows_unsafe(code: &[Token]) -> bool {
    code.windows(3)
        .any(|words| words[0].is("allow") && words[1].is("(") && words[2].is("unsafe_code"))
}

#[test]
fn unsafe_stays_in_sys_and_is_argued() {
    let mut complaints = Vec::new();
    for path in tree::rust_files() {
        complaints.extend(check(&path, &tree::read(&path)));
    }
    no_complaints(complaints);
}

#[test]
fn the_compiler_denies_unsafe_everywhere_else() {
    let lib = tree::read("src/lib.rs");
    let code = rust::code(&lib);
    let denied = code
        .windows(3)
        .any(|words| (words[0].is("deny") || words[0].is("forbid")) && words[2].is("unsafe_code"));
    assert!(denied, "src/lib.rs must deny unsafe_code");
    assert!(
        rust::tokens(&lib)
            .iter()
            .any(|token| token.kind == Kind::Comment)
    );
}

#[cfg(test)]
mod samples {
    use super::*;

    #[test]
    fn unsafe_outside_sys_is_found() {
        complains(
            &check("src/keeper/mod.rs", "fn a() { unsafe { b() } }"),
            "outside src/sys.rs",
        );
        complains(
            &check("src/keeper/mod.rs", "#![allow(unsafe_code)]"),
            "allows unsafe_code",
        );
        assert_eq!(
            check("src/keeper/mod.rs", "// unsafe\nlet a = \"unsafe\";"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn unsafe_without_its_reason_is_found() {
        complains(
            &check("src/sys.rs", "fn a() {\n    unsafe { b() }\n}"),
            "without a `SAFETY:`",
        );
        let far = "// SAFETY: old.\nlet a = 1;\nlet c = unsafe { b() };";
        complains(&check("src/sys.rs", far), "without a `SAFETY:`");
    }

    #[test]
    fn unsafe_with_its_reason_passes() {
        let near =
            "// SAFETY: b takes nothing\n// and gives nothing.\nlet a =\n    unsafe { b() };";
        assert_eq!(check("src/sys.rs", near), Vec::<String>::new());
    }
}
