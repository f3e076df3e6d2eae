//! Tells the linker how to lay out the program's code (`.cargo/rare.ld`); the path has to be absolute,
//! because cargo calls the linker from elsewhere when another project is built below this one.

use std::env;

const SCRIPT: &str = ".cargo/rare.ld";

fn main() {
    println!("cargo:rerun-if-changed={SCRIPT}");
    println!("cargo:rerun-if-changed=build.rs");
    // Of the linkers in use this one knows no such scripts; without it the program holds more memory.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if let Ok(root) = env::var("CARGO_MANIFEST_DIR")
        && !flags.contains("mold")
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{root}/{SCRIPT}");
    }
}
