//! Links the library so that its own names mean its own functions.

fn main() {
    // Where the driver loads the library late, the driver's functions of the same names are found first by everyone:
    // without this the table of wrappers would hold the driver's own functions.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
