//! A tray: the half of a panel that the app's icon registers with, and a hand that clicks its menu.

use super::Desktop;
use crate::wait_for;
use anyhow::{Context as _, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use zbus::{
    Connection, Proxy,
    connection::Builder,
    message::Header,
    zvariant::{OwnedObjectPath, OwnedValue, Structure, Value},
};

/// The name by which icons find a tray, as KDE's specification of status notifiers has it.
const NAME: &str = "org.kde.StatusNotifierWatcher";

/// The tray. It must be there before the app is.
#[derive(Debug)]
pub struct Tray {
    connection: Connection,
    items: Arc<Mutex<Vec<Item>>>,
}

/// Whose icon it is, and where.
#[derive(Clone, Debug)]
struct Item {
    owner: String,
    path: String,
}

struct Watcher(Arc<Mutex<Vec<Item>>>);

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, path: &str, #[zbus(header)] header: Header<'_>) {
        let owner = header.sender().map(ToString::to_string).unwrap_or_default();
        let item = Item { owner, path: path.to_owned() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }

    #[zbus(property)]
    fn registered_status_notifier_items(&self) -> Vec<String> {
        let items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        items.iter().map(|Item { owner, path }| format!("{owner}{path}")).collect()
    }
}

/// An entry of a menu, as `com.canonical.dbusmenu` has it: id, properties, entries below.
type Entry = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

impl Tray {
    /// Puts a tray on this desktop.
    ///
    /// # Errors
    /// When the session cannot be reached.
    pub async fn on(desktop: &Desktop) -> Result<Self> {
        let items = Arc::default();
        let connection = Builder::address(desktop.bus())?
            .serve_at("/StatusNotifierWatcher", Watcher(Arc::clone(&items)))?
            .name(NAME)?
            .build()
            .await?;
        Ok(Self { connection, items })
    }

    /// Clicks an entry of the icon's menu, once there is one of this name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn click(&self, label: &str) -> Result<()> {
        let what = format!("{label:?} in the tray's menu");
        let (menu, id) = wait_for(&what, async || {
            let item = self.items.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
            let Some(item) = item else { return Ok(None) };
            // An icon is registered before its menu answers.
            Ok(self.find(&item, label).await.ok().flatten())
        })
        .await?;
        let (nothing, now) = (Value::from(""), 0_u32);
        Ok(menu.call("Event", &(id, "clicked", nothing, now)).await?)
    }

    /// The menu of an icon, and the id of its entry of this label.
    async fn find(&self, item: &Item, label: &str) -> Result<Option<(Proxy<'static>, i32)>> {
        let menu = self.menu(item).await?;
        Ok(entry(&menu, label).await?.map(|id| (menu, id)))
    }

    async fn menu(&self, item: &Item) -> Result<Proxy<'static>> {
        let (owner, path) = (item.owner.clone(), item.path.clone());
        let icon =
            Proxy::new(&self.connection, owner.clone(), path, "org.kde.StatusNotifierItem").await?;
        let menu: OwnedObjectPath = icon.get_property("Menu").await?;
        Ok(Proxy::new(&self.connection, owner, menu, "com.canonical.dbusmenu").await?)
    }
}

/// The id of the entry of this label.
async fn entry(menu: &Proxy<'_>, label: &str) -> Result<Option<i32>> {
    let wanted: &[&str] = &[];
    let (_, (_, _, below)): (u32, Entry) = menu.call("GetLayout", &(0, -1, wanted)).await?;
    for entry in below {
        let entry: Structure<'_> = entry.try_into()?;
        let (id, about, _): Entry = entry.try_into().context("an entry of another shape")?;
        let text = about.get("label").and_then(|text| <&str>::try_from(text).ok());
        // An underscore marks the letter that the keyboard chooses it by.
        if text.is_some_and(|text| text.replace('_', "") == label) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
