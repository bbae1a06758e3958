//! Lets what `main.rs` puts in place of the C library's functions be found by name, too.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-tests=-rdynamic");
}
