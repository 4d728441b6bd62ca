//! The app in its window.

use super::Desktop;
use crate::{
    PATIENCE,
    process::{Port, Process},
    tools::{Tools, built},
    wait_for,
};
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use thirtyfour::{Capabilities, WebDriver, WebElement};

/// How the app is started.
#[derive(Debug)]
pub struct Launch {
    /// Its data folder.
    pub data: PathBuf,
    port: Port,
    /// Extra environment, such as the log's level.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    /// With this data folder, on a port of its own.
    ///
    /// # Errors
    /// When there is no port.
    pub fn new(data: &Path) -> Result<Self> {
        Ok(Self { data: data.to_owned(), port: Port::reserve()?, environment: Vec::new() })
    }

    /// Where agents dial in.
    #[must_use]
    pub fn agent_address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    fn arguments(&self) -> Vec<String> {
        let address = self.agent_address();
        let data = self.data.display().to_string();
        ["--data-dir", &data, "--agent-listen", &address, "--agent-address", &address]
            .map(str::to_owned)
            .into()
    }

    /// The app as a command, for a start without a driver.
    ///
    /// # Errors
    /// When it was not built.
    pub fn command(&self, desktop: &Desktop) -> Result<Command> {
        let mut command = desktop.command(built("restic-manager")?);
        command.args(self.arguments());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

/// The running app and the driver that holds its window. Dropped, both are killed.
#[derive(Debug)]
pub struct App {
    browser: WebDriver,
    _driver: Process,
    data: PathBuf,
}

impl App {
    /// Starts the app and waits for its page.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(desktop: &Desktop, tools: &Tools, launch: &Launch) -> Result<Self> {
        let (port, native) = (Port::reserve()?, Port::reserve()?);
        let mut driver = desktop.command(tools.tauri_driver()?);
        driver.args(["--port", &port.number().to_string()]);
        driver.args(["--native-port", &native.number().to_string()]);
        // It prints a trace for each request that comes before it is ready, and those are expected.
        driver.env("RUST_BACKTRACE", "0");
        driver.envs(launch.environment.iter().map(|(name, value)| (name, value)));
        let mut driver = Process::spawn("app", driver, desktop.root(), "")?;
        let address = format!("http://127.0.0.1:{}", port.number());
        // Clients of plain HTTP want one too. Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build()?;
        wait_for("the driver of the window", async || {
            ensure!(driver.is_running()?, "the driver ended:\n{}", driver.printed());
            let Ok(answer) = client.get(format!("{address}/status")).send().await else {
                return Ok(None);
            };
            let status: Value = answer.json().await.unwrap_or_default();
            Ok((status["value"]["ready"] == true).then_some(()))
        })
        .await?;
        let mut wanted = Capabilities::new();
        let options =
            json!({ "application": built("restic-manager")?, "args": launch.arguments() });
        wanted.set("tauri:options", options)?;
        let browser = WebDriver::new(&address, wanted)
            .await
            .with_context(|| format!("the app did not start:\n{}", driver.printed()))?;
        // Dropped, it would ask a driver that may be gone to end the session, and wait for that. The
        // driver's end is the session's.
        browser.clone().leak()?;
        browser.set_script_timeout(PATIENCE).await?;
        Ok(Self { browser, _driver: driver, data: launch.data.clone() })
    }

    /// The process id of the app itself.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<Pid> {
        pid_of(&self.data)?.context("the app does not run")
    }

    /// Sends a signal to the app.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Waits until the app has ended.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ended(&self) -> Result<()> {
        let gone = async || Ok(pid_of(&self.data)?.is_none().then_some(()));
        wait_for("the end of the app", gone).await
    }

    /// What the page says, as a person sees it.
    ///
    /// # Errors
    /// When the window does not answer.
    pub async fn text(&self) -> Result<String> {
        let text = self.script("return document.body.innerText").await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// What the page is made of, with what it keeps for later; not what is typed into its fields.
    ///
    /// # Errors
    /// When the window does not answer.
    pub async fn source(&self) -> Result<String> {
        const SOURCE: &str = "return document.documentElement.outerHTML \
             + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie \
             + location.href";
        let source = self.script(SOURCE).await?;
        Ok(source.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page says this.
    ///
    /// # Errors
    /// When it does not; the error has what it says instead.
    pub async fn sees(&self, text: &str) -> Result<()> {
        let what = format!("the page to say {text:?}");
        let says = async || Ok(self.text().await?.contains(text).then_some(()));
        match wait_for(&what, says).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let page = self.text().await.unwrap_or_default();
                Err(error.context(format!("the page says:\n{page}")))
            }
        }
    }

    /// Presses the button or follows the link of this name.
    ///
    /// # Errors
    /// When there is none that can be pressed.
    pub async fn press(&self, name: &str) -> Result<()> {
        self.press_in("body", name).await
    }

    /// The same within the element of this kind.
    ///
    /// # Errors
    /// When there is none that can be pressed.
    pub async fn press_in(&self, within: &str, name: &str) -> Result<()> {
        let name = quoted(name);
        let by = format!(
            "//{within}//*[self::button or self::a]\
             [normalize-space(.)={name} or @aria-label={name} or @title={name}]"
        );
        self.element(&by).await?.click().await.with_context(|| format!("pressing {name}"))
    }

    /// Types into the field of this name, in place of what is there.
    ///
    /// # Errors
    /// When there is no such field.
    pub async fn fill(&self, name: &str, text: &str) -> Result<()> {
        let field = self.element(&format!("//*[@name={}]", quoted(name))).await?;
        field.clear().await?;
        field.send_keys(text).await.with_context(|| format!("filling {name}"))
    }

    /// Pastes into the field of this name, in place of what is there: typed line ends do not all
    /// arrive.
    ///
    /// # Errors
    /// When there is no such field.
    pub async fn paste(&self, name: &str, text: &str) -> Result<()> {
        let field = self.element(&format!("//*[@name={}]", quoted(name))).await?;
        const PASTE: &str = "arguments[0].focus(); arguments[0].select(); \
             return document.execCommand('insertText', false, arguments[1]);";
        let pasted = self.browser.execute(PASTE, vec![field.to_json()?, json!(text)]).await?;
        ensure!(pasted.json() == true, "nothing was pasted into {name}");
        Ok(())
    }

    /// The text of a block that can be copied, by what it is: "install line".
    ///
    /// # Errors
    /// When there is none.
    pub async fn block(&self, what: &str) -> Result<String> {
        let block = self.element(&format!("//pre[@aria-label={}]", quoted(what))).await?;
        let text = block.prop("textContent").await?;
        text.with_context(|| format!("the {what} is empty"))
    }

    /// What the manager answers to the page for this path.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = json!({ "method": "GET", "path": path, "body": null });
        let script = format!(
            "return await window.__TAURI_INTERNALS__.invoke('api', {{ request: {request} }});"
        );
        let answer = self.script_async(&script).await?;
        ensure!(answer["status"] == 200, "{path}: {answer}");
        let body = answer["body"].as_str().context("an answer without a body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// The first element that this XPath finds and that can be seen, once there is one.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn element(&self, path: &str) -> Result<WebElement> {
        // The driver's own idea of what is displayed misses elements that cut their text.
        const FIND: &str = "const all = document.evaluate(arguments[0], document, null, \
             XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null); \
             for (let i = 0; i < all.snapshotLength; i += 1) { \
               const it = all.snapshotItem(i); \
               if (it.checkVisibility() && it.getClientRects().length > 0) return it; \
             } \
             return null;";
        let found = wait_for(path, async || {
            let found = self.browser.execute(FIND, vec![json!(path)]).await?;
            Ok(if found.json().is_null() { None } else { Some(found.element()?) })
        });
        match found.await {
            Ok(element) => Ok(element),
            Err(error) => {
                let page = self.text().await.unwrap_or_default();
                Err(error.context(format!("the page says:\n{page}")))
            }
        }
    }

    /// Runs a script in the page and returns what it returns.
    ///
    /// # Errors
    /// When the window does not answer or the script throws.
    pub async fn script(&self, script: &str) -> Result<Value> {
        Ok(self.browser.execute(script, Vec::new()).await?.json().clone())
    }

    /// Runs a script that may `await`, and returns what it returns.
    ///
    /// # Errors
    /// When the window does not answer or the script throws.
    pub async fn script_async(&self, script: &str) -> Result<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {script} }})().then(done, (error) => done({{ thrown: String(error) }}));"
        );
        let returned = self.browser.execute_async(script, Vec::new()).await?.json().clone();
        ensure!(returned.get("thrown").is_none(), "the script threw: {returned}");
        Ok(returned)
    }

    /// A picture of the page as it is now, as a PNG file.
    ///
    /// # Errors
    /// When none can be made or written.
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        // Without this the picture may be of an earlier frame.
        const PAINTED: &str = "const done = arguments[arguments.length - 1]; \
             requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)));";
        self.browser.execute_async(PAINTED, Vec::new()).await?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(file, self.browser.screenshot_as_png().await?)?)
    }
}

/// The app's process, found by its data folder: it is a grandchild of the driver.
fn pid_of(data: &Path) -> Result<Option<Pid>> {
    let data = data.as_os_str().as_encoded_bytes();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        let is_app = arguments.next().is_some_and(|program| program.ends_with(b"restic-manager"));
        if is_app && arguments.any(|argument| argument == data) {
            return Ok(Pid::from_raw(pid));
        }
    }
    Ok(None)
}

/// Text as XPath writes it. There is no escape for quotes, and no text here needs both kinds.
fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}
