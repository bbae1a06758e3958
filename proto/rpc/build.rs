//! Compiles the services to Rust (prost, tonic), without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "schema/control.proto",
        "schema/exchange.proto",
        "schema/forward.proto",
        "schema/peer.proto",
        "schema/state.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["schema"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
