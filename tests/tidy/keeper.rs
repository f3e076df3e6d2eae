//! No panic path in the keeper: it is the parent of every service and may be PID 1, where a panic
//! takes the machine with it. That covers its own room and the wire it reads.
//!
//! Without types at hand the checker is blunt: it also forbids arithmetic that could not overflow.
//! `checked_`, `saturating_`, `wrapping_` and `get` say the same and cannot fail.

use super::rust::{self, Kind, Token};
use super::{complains, no_complaints, tree};

const COVERED: [&str; 3] = ["src/keeper", "src/ipc/wire.rs", "src/ipc/wire/"];

const METHODS: [&str; 9] = [
    "unwrap",
    "expect",
    "unwrap_err",
    "expect_err",
    "split_at",
    "split_at_mut",
    "copy_from_slice",
    "clone_from_slice",
    "swap_remove",
];

const MACROS: [&str; 10] = [
    "panic",
    "unreachable",
    "todo",
    "unimplemented",
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
];

/// After these words a `[` opens an array or a pattern, and a `*` or `-` stands alone.
const BEFORE_A_VALUE: [&str; 18] = [
    "let", "mut", "return", "in", "else", "match", "if", "while", "as", "break", "ref", "move",
    "dyn", "impl", "const", "static", "where", "yield",
];

fn check(path: &str, source: &str) -> Vec<String> {
    if tree::is_test(path) || !COVERED.iter().any(|covered| path.starts_with(covered)) {
        return Vec::new();
    }
    let code = rust::shipped(source);
    let mut complaints = Vec::new();
    for at in 0..code.len() {
        if let Some(trouble) = trouble(&code, at) {
            complaints.push(format!("{path}:{}: {trouble}", code[at].line));
        }
    }
    complaints
}

fn trouble(code: &[Token], at: usize) -> Option<String> {
    let token = &code[at];
    let before = at.checked_sub(1).map(|before| &code[before]);
    let after = code.get(at + 1);
    let text = token.text.as_str();
    let follows_a_value = before.is_some_and(ends_a_value);
    if token.is_word() && METHODS.contains(&text) && before.is_some_and(|sign| sign.is(".")) {
        return Some(format!(
            ".{text}() can panic in the keeper; handle the other case"
        ));
    }
    if token.is_word() && MACROS.contains(&text) && after.is_some_and(|sign| sign.is("!")) {
        return Some(format!(
            "{text}! in the keeper; log and drop the unexpected instead"
        ));
    }
    if token.is("[") && follows_a_value {
        return Some("indexing can panic in the keeper; use get".to_owned());
    }
    let arithmetic = matches!(
        text,
        "+" | "-" | "*" | "/" | "%" | "<<" | "+=" | "-=" | "*=" | "/=" | "%=" | "<<=" | ">>="
    );
    if token.kind == Kind::Sign && arithmetic && follows_a_value && !harmless(code, at) {
        return Some(format!(
            "`{text}` can overflow in the keeper; use checked_ or saturating_"
        ));
    }
    None
}

fn ends_a_value(token: &Token) -> bool {
    match token.kind {
        Kind::Word => !BEFORE_A_VALUE.contains(&token.text.as_str()),
        Kind::Literal => true,
        Kind::Sign => matches!(token.text.as_str(), ")" | "]" | "?"),
        Kind::Lifetime | Kind::Comment => false,
    }
}

/// Bounds of types (`A + Send`), sums of constants (the compiler checks them), a literal divisor.
fn harmless(code: &[Token], at: usize) -> bool {
    let (Some(before), Some(after)) = (code.get(at - 1), code.get(at + 1)) else {
        return false;
    };
    let bound = code[at].is("+")
        && (after.kind == Kind::Lifetime
            || names_a_type(after) && (names_a_type(before) || before.is(")")));
    let constants = constant(before) && constant(after);
    let divides = matches!(code[at].text.as_str(), "/" | "%" | "/=" | "%=");
    bound || constants || (divides && after.kind == Kind::Literal && after.text != "0")
}

fn constant(token: &Token) -> bool {
    let shouted = token.is_word() && !token.text.chars().any(char::is_lowercase);
    token.kind == Kind::Literal || shouted
}

fn names_a_type(token: &Token) -> bool {
    let text = &token.text;
    token.is_word()
        && text.starts_with(char::is_uppercase)
        && (text.chars().any(char::is_lowercase) || text.len() == 1)
}

#[test]
fn nothing_in_the_keeper_can_panic() {
    let mut complaints = Vec::new();
    for path in tree::rust_files() {
        complaints.extend(check(&path, &tree::read(&path)));
    }
    no_complaints(complaints);
}

#[cfg(test)]
mod samples {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        check("src/keeper/book.rs", &format!("fn a() {{ {body} }}"))
    }

    #[test]
    fn each_way_to_panic_is_found() {
        complains(&found("b.unwrap()"), ".unwrap()");
        complains(&found("b.expect(\"c\")"), ".expect()");
        complains(&found("panic!(\"b\")"), "panic!");
        complains(&found("unreachable!()"), "unreachable!");
        complains(&found("assert_eq!(b, c)"), "assert_eq!");
        complains(&found("b[0]"), "indexing");
        complains(&found("b()[c]"), "indexing");
        complains(&found("b + 1"), "`+`");
        complains(&found("b.c() - d"), "`-`");
        complains(&found("b += 1"), "`+=`");
        complains(&found("b * c"), "`*`");
        complains(&found("b / c"), "`/`");
        complains(&found("1 << b"), "`<<`");
    }

    #[test]
    fn what_cannot_panic_passes() {
        let good = "
            let [b, c] = [0u8; 4]; let d: &[u8] = &[1, 2]; vec![1]; *d = -1; &mut *e;
            f.unwrap_or(0); g.checked_add(1); HEAD + BODY; h / 2; return [i]; |j| *j;
            let k: Box<dyn Fn() + Send + 'static>; l as *const u8;";
        assert_eq!(found(good), Vec::<String>::new());
        let bounds =
            "#[derive(Debug)] struct A<T: B + C>(T); #[cfg(test)] mod t { fn u() { v[0] } }";
        assert_eq!(check("src/keeper/book.rs", bounds), Vec::<String>::new());
    }

    #[test]
    fn other_rooms_may_count() {
        assert_eq!(
            check("src/log/rotate.rs", "fn a() { b + c }"),
            Vec::<String>::new()
        );
        complains(&check("src/ipc/wire.rs", "fn a() { b + c }"), "`+`");
    }
}
