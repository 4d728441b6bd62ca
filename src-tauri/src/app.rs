//! The Tauri side: the window, the tray, the process.

mod commands;
mod subscriptions;
mod tray;

use crate::{
    Options,
    controller::{Controller, Shell},
    found_addresses,
    keyring::OsKeyring,
    log,
};
use server::server::{Config, prepare};
use std::{error::Error, process::ExitCode, sync::Arc};
use subscriptions::Subscriptions;
use tauri::{
    App, AppHandle, Manager as _, RunEvent, Theme, Url, WebviewUrl, WebviewWindow,
    WebviewWindowBuilder, WindowEvent,
    async_runtime::spawn,
    webview::{NewWindowResponse, PageLoadEvent},
};
use tauri_plugin_window_state::{AppHandleExt as _, StateFlags};

/// The one window.
const WINDOW: &str = "main";

/// What is remembered of the window. Whether it was to be seen is not: an app that was quit from the
/// tray still opens its window at the next start.
fn remembered() -> StateFlags {
    StateFlags::all().difference(StateFlags::VISIBLE)
}

/// Runs the app until it is quit.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    if !has_display() {
        complain(
            "There is no display to open a window on. On a machine without a desktop use \
             restic-manager-headless.",
        );
        return ExitCode::FAILURE;
    }
    let window_state =
        tauri_plugin_window_state::Builder::default().with_state_flags(remembered()).build();
    let builder = tauri::Builder::default();
    // On macOS the system itself starts an app once and says `Reopen`; the plugin's socket there lies
    // where any user could take its place.
    #[cfg(not(target_os = "macos"))]
    let builder = builder.plugin(tauri_plugin_single_instance::init(|app, _args, _folder| {
        // Before the set-up there is nothing to show, and the window is about to come.
        if let Some(controller) = app.try_state::<Arc<Controller>>() {
            controller.open();
        }
    }));
    let built = builder
        .plugin(window_state)
        .plugin(tauri_plugin_clipboard_manager::init())
        .plugin(tauri_plugin_dialog::init())
        .invoke_handler(tauri::generate_handler![
            commands::api,
            commands::subscribe,
            commands::unsubscribe,
            commands::copy_text,
            commands::save_text,
            commands::quit,
        ])
        .setup(|app| set_up(app, options))
        .on_window_event(|window, event| {
            if let WindowEvent::CloseRequested { api, .. } = event {
                api.prevent_close();
                let controller = controller(window.app_handle());
                spawn(async move { controller.window_closed().await });
            } else if let WindowEvent::ThemeChanged(theme) = event {
                tray::fit(window.app_handle(), *theme);
            }
        })
        .build(context());
    match built {
        Ok(app) => {
            app.run(on_event);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("Restic Manager could not start: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the macro's own, for assets that do not unpack")]
fn context() -> tauri::Context {
    tauri::generate_context!()
}

/// Says something before there is a log.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(text: &str) {
    eprintln!("restic-manager: {text}");
}

fn has_display() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(all(unix, not(target_os = "macos"))) || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

fn set_up(app: &mut App, options: Options) -> Result<(), Box<dyn Error>> {
    let data_dir = match options.data_dir {
        Some(folder) => folder,
        None => app.path().local_data_dir()?.join("restic-manager"),
    };
    // Before the log makes it for everybody. What is wrong with it, the start tells on the page.
    let is_there = prepare(&data_dir).is_ok();
    log::start(is_there.then_some(&data_dir));
    let config = Config {
        data_dir,
        agent_listen: options.agent_listen,
        agent_addresses: options.agent_address,
        programs: None,
        found_addresses: found_addresses(options.agent_listen.port()),
    };
    let shell = Box::new(Desktop { app: app.handle().clone() });
    let controller = Arc::new(Controller::new(shell, Arc::new(OsKeyring), config));
    app.manage(Arc::clone(&controller));
    app.manage(Subscriptions::default());
    spawn(end_on_signal(Arc::clone(&controller)));
    // Agents are served although no page has asked for anything yet.
    spawn(async move { drop(controller.bridge().await) });
    let window = open_window(app)?;
    if let Err(error) = tray::show(app, window.theme().unwrap_or(Theme::Light)) {
        tracing::warn!(error = &error as &dyn Error, "There is no icon in the tray");
    }
    Ok(())
}

fn open_window(app: &App) -> tauri::Result<WebviewWindow> {
    let window = WebviewWindowBuilder::new(app, WINDOW, WebviewUrl::default())
        .title("Restic Manager")
        .inner_size(1200.0, 800.0)
        .min_inner_size(720.0, 480.0)
        .center()
        // Shown below, where it was left: a window manager that is still placing a window may not
        // hear where else it should be.
        .visible(false)
        // The pages are all there is: nothing else is ever shown in this window.
        .on_navigation(is_ours)
        .on_new_window(|_url, _features| NewWindowResponse::Deny)
        .on_page_load(|window, payload| {
            // A page that is loaded anew no longer hears what the last one asked for.
            if payload.event() == PageLoadEvent::Started {
                window.state::<Subscriptions>().end_all();
            }
        })
        .build()?;
    window.show()?;
    Ok(window)
}

/// Whether this is one of the app's own pages, as the system's webview names them.
fn is_ours(url: &Url) -> bool {
    let own = if cfg!(windows) { ("http", "tauri.localhost") } else { ("tauri", "localhost") };
    let asked = (url.scheme(), url.host_str().unwrap_or_default());
    asked == own && url.port().is_none()
        || cfg!(dev) && asked == ("http", "localhost") && url.port() == Some(5173)
}

fn controller(app: &AppHandle) -> Arc<Controller> {
    Arc::clone(&app.state::<Arc<Controller>>())
}

fn on_event(app: &AppHandle, event: RunEvent) {
    // Tauri does not drop what it manages: whoever wants to end, ends through the controller.
    if let RunEvent::ExitRequested { api, .. } = &event {
        let controller = controller(app);
        if !controller.has_ended() {
            api.prevent_exit();
            spawn(async move { controller.quit().await });
        }
    }
    // macOS ends an app from its own menu without asking first.
    if let RunEvent::Exit = event {
        tauri::async_runtime::block_on(controller(app).stop());
    }
    #[cfg(target_os = "macos")]
    if let RunEvent::Reopen { .. } = event {
        controller(app).open();
    }
}

/// Ends the app when the system asks it to.
async fn end_on_signal(controller: Arc<Controller>) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::warn!("The signals that end the app cannot be watched");
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    controller.quit().await;
}

/// The window and the process, for the controller.
struct Desktop {
    app: AppHandle,
}

impl Desktop {
    /// Does something with the window. That it does not work is no reason to stop.
    fn with_window(&self, act: impl FnOnce(&WebviewWindow) -> tauri::Result<()>) {
        if let Some(window) = self.app.get_webview_window(WINDOW)
            && let Err(error) = act(&window)
        {
            tracing::warn!(error = &error as &dyn Error, "The window did not do what was asked");
        }
    }
}

impl Shell for Desktop {
    fn show(&self) {
        self.with_window(|window| {
            window.unminimize()?;
            window.show()?;
            window.set_focus()
        });
    }

    fn hide(&self) {
        // Kept now, since a process that is killed later keeps nothing.
        if let Err(error) = self.app.save_window_state(remembered()) {
            tracing::warn!(error = &error as &dyn Error, "The window's place was not kept");
        }
        // Without an icon nobody would find a window that is hidden.
        if tray::is_there(&self.app) {
            self.with_window(WebviewWindow::hide);
        } else {
            self.with_window(WebviewWindow::minimize);
        }
    }

    fn exit(&self) {
        self.app.exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_pages_are_shown() {
        for (url, expected) in [
            ("tauri://localhost/", cfg!(not(windows))),
            ("tauri://localhost/index.html#/fleet", cfg!(not(windows))),
            ("http://tauri.localhost/", cfg!(windows)),
            ("https://example.org/", false),
            ("tauri://localhost:8000/", false),
            ("http://tauri.localhost:8000/", false),
            ("tauri://example.org/", false),
            ("http://tauri.localhost.example.org/", false),
            ("file:///etc/passwd", false),
            ("data:text/html,hello", false),
            ("javascript:alert(1)", false),
        ] {
            assert_eq!(is_ours(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
