//! What the page may ask of the shell. `build.rs` and `capabilities/main.json` name the same ones.

use super::subscriptions::Subscriptions;
use crate::{
    bridge::{Answer, Request},
    controller::Controller,
};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tauri::{AppHandle, State, WebviewWindow, async_runtime::spawn, ipc::Channel};
use tauri_plugin_clipboard_manager::ClipboardExt as _;
use tauri_plugin_dialog::DialogExt as _;
use tokio::sync::oneshot;

type App<'a> = State<'a, Arc<Controller>>;

/// What `subscribe` says: the number to unsubscribe by, or the answer that was no stream.
#[derive(Serialize)]
pub(super) struct Subscribed {
    id: Option<u64>,
    answer: Option<Answer>,
}

/// One request, one answer. A server that does not run is an answer too.
#[tauri::command]
pub(super) async fn api(app: App<'_>, request: Request) -> Result<Answer, String> {
    Ok(match app.bridge().await {
        Ok(bridge) => bridge.request(request).await,
        Err(refusal) => refusal,
    })
}

/// Follows a stream of server-sent events: its text in pieces, and `null` when it is over.
#[tauri::command]
pub(super) async fn subscribe(
    app: App<'_>,
    window: WebviewWindow,
    subscriptions: State<'_, Subscriptions>,
    path: String,
    channel: Channel<Option<String>>,
) -> Result<Subscribed, String> {
    let page = subscriptions.page();
    let opened = match app.bridge().await {
        Ok(bridge) => bridge.stream(&path).await,
        Err(refusal) => Err(refusal),
    };
    let tell = move |piece: Option<String>| -> BoxFuture<'static, bool> {
        if channel.send(piece).is_err() {
            return Box::pin(std::future::ready(false));
        }
        let (tell, told) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        // What is asked of the page is answered after what it was told before.
        let asked = window.eval_with_callback("0", move |_| {
            if let Some(tell) = tell.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // The stream may have been stopped meanwhile.
                let _ = tell.send(());
            }
        });
        Box::pin(async move { asked.is_ok() && told.await.is_ok() })
    };
    let begun = opened.and_then(|stream| subscriptions.begin(page, stream, Box::new(tell)));
    Ok(match begun {
        Ok(id) => Subscribed { id: Some(id), answer: None },
        Err(answer) => Subscribed { id: None, answer: Some(answer) },
    })
}

/// Stops following.
#[tauri::command]
pub(super) fn unsubscribe(subscriptions: State<'_, Subscriptions>, id: u64) {
    subscriptions.end(id);
}

/// Puts text on the clipboard.
#[tauri::command]
pub(super) fn copy_text(app: AppHandle, text: String) -> Result<(), String> {
    app.clipboard().write_text(text).map_err(|error| error.to_string())
}

/// Asks the person for a place and writes a text file there. Says whether it was written: a person
/// may think better of it.
#[tauri::command]
pub(super) async fn save_text(
    app: AppHandle,
    window: WebviewWindow,
    name: String,
    text: String,
) -> Result<bool, String> {
    // The page proposes a name, never a folder.
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (answer, answered) = oneshot::channel();
    app.dialog().file().set_parent(&window).set_file_name(name).save_file(|place| {
        // The page may be gone.
        let _ = answer.send(place);
    });
    let Ok(Some(place)) = answered.await else { return Ok(false) };
    let place = place.into_path().map_err(|error| error.to_string())?;
    std::fs::write(&place, text)
        .map_err(|error| format!("{} could not be written: {error}", place.display()))?;
    Ok(true)
}

/// Ends the app.
#[tauri::command]
pub(super) fn quit(app: App<'_>) {
    let app = Arc::clone(&app);
    spawn(async move { app.quit().await });
}
