//! The icon in the system's tray, by which the app is found while its window is closed.

use super::controller;
use std::sync::Arc;
use tauri::{
    App, AppHandle, Manager as _, Theme,
    async_runtime::spawn,
    image::Image,
    include_image,
    menu::{Menu, MenuItem},
    tray::{MouseButton, MouseButtonState, TrayIconBuilder, TrayIconEvent},
};

const TRAY: &str = "main";
const FOR_LIGHT: Image<'_> = include_image!("../icons/tray-light.png");
const FOR_DARK: Image<'_> = include_image!("../icons/tray-dark.png");

/// Shows the icon with its menu.
pub(super) fn show(app: &App, theme: Theme) -> tauri::Result<()> {
    let open = MenuItem::with_id(app, "open", "Open Restic Manager", true, None::<&str>)?;
    let quit = MenuItem::with_id(app, "quit", "Quit", true, None::<&str>)?;
    TrayIconBuilder::with_id(TRAY)
        // The icon goes through a file on Linux; without this, one that others might have made.
        .temp_dir_path(app.path().app_cache_dir()?)
        .icon(icon(theme))
        .icon_as_template(true)
        .tooltip("Restic Manager")
        .menu(&Menu::with_items(app, &[&open, &quit])?)
        // On Linux a click always opens the menu; elsewhere the left one opens the window.
        .show_menu_on_left_click(cfg!(target_os = "linux"))
        .on_menu_event(|app, event| match event.id().as_ref() {
            "open" => controller(app).open(),
            "quit" => {
                let app = Arc::clone(&controller(app));
                spawn(async move { app.quit().await });
            }
            _ => {}
        })
        .on_tray_icon_event(|tray, event| {
            if let TrayIconEvent::Click {
                button: MouseButton::Left,
                button_state: MouseButtonState::Up,
                ..
            } = event
            {
                controller(tray.app_handle()).open();
            }
        })
        .build(app)?;
    Ok(())
}

/// Whether there is an icon.
pub(super) fn is_there(app: &AppHandle) -> bool {
    app.tray_by_id(TRAY).is_some()
}

/// Changes the icon to one that can be seen in this theme.
pub(super) fn fit(app: &AppHandle, theme: Theme) {
    if let Some(tray) = app.tray_by_id(TRAY)
        && let Err(error) = tray.set_icon(Some(icon(theme)))
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "The tray's icon did not change");
    }
}

fn icon(theme: Theme) -> Image<'static> {
    if theme == Theme::Dark { FOR_DARK } else { FOR_LIGHT }
}
