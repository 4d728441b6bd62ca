//! Says which commands the page may call; `capabilities/main.json` grants them to the one window.

fn main() {
    const COMMANDS: &[&str] =
        &["api", "subscribe", "unsubscribe", "copy_text", "save_text", "quit"];
    let manifest = tauri_build::AppManifest::new().commands(COMMANDS);
    let attributes = tauri_build::Attributes::new().app_manifest(manifest);
    if let Err(error) = tauri_build::try_build(attributes) {
        println!("cargo::error={error:#}");
    }
}
