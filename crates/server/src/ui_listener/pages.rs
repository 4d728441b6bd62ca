//! The pages of the interface, for browsers: read into memory once, and handed out as they were.
//!
//! What can be asked for is the list of what lay in the folder at the start. No path of a request
//! ever reaches the file system, so there is nothing to escape from, and pages that are replaced
//! while the server runs cannot be mixed with those before.

use crate::files::installed;
use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state, map_response},
    response::{IntoResponse as _, Response},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

/// The page that all others are inside of.
const INDEX: &str = "index.html";
/// The folder whose files carry a hash of their content in their name.
const HASHED: &str = "/assets/";
/// More than this in sum is not our pages but a wrong folder.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Deeper than this neither.
const MOST_FOLDERS: usize = 8;

/// What a page may do: nothing but what its own server hands out. Nobody may put it into a frame,
/// and it sends no form anywhere.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// What every answer carries, pages or not.
static HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Said in place of the pages when there are none.
const NO_PAGES: &str = "The server runs, but it has no pages to show here.\n\n\
    Build them (npm ci && npm run build, in the folder ui of the sources), and start the server with\n\
    --ui-dir and the folder that this made (ui/dist). The interface for programs is below /api.\n";

/// Why the pages cannot be had.
#[derive(Debug, Error)]
pub enum PagesError {
    /// A file or folder cannot be read.
    #[error("failed to read the pages in {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder does not hold pages.
    #[error("{} does not hold the pages: it has no index.html", .0.display())]
    NoIndex(PathBuf),
    /// The folder holds far more than pages.
    #[error("{} does not hold the pages: it is far too big", .0.display())]
    TooBig(PathBuf),
}

/// The pages, by the path at which they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Pages(Arc<BTreeMap<String, Page>>);

#[derive(Debug)]
struct Page {
    content_type: &'static str,
    bytes: Bytes,
}

impl Pages {
    /// The pages in this folder. Links in it are not followed.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn read(folder: &Path) -> Result<Self, PagesError> {
        let mut reading = Reading { root: folder, pages: BTreeMap::new(), bytes: 0 };
        reading.folder(folder, "/", 0)?;
        let mut pages = reading.pages;
        let index = pages.get(&format!("/{INDEX}"));
        let index = index.ok_or_else(|| PagesError::NoIndex(folder.to_owned()))?;
        let start = Page { content_type: index.content_type, bytes: index.bytes.clone() };
        pages.insert("/".to_owned(), start);
        Ok(Self(Arc::new(pages)))
    }

    /// The pages where an installation puts them, beside the program's folder; none when there is
    /// no such folder.
    ///
    /// # Errors
    /// When there is one, and it cannot be read or holds something else.
    pub fn installed() -> Result<Self, PagesError> {
        match installed("ui") {
            Some(folder) => Self::read(&folder),
            None => Ok(Self::default()),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the pages beside the API.
    pub fn beside(self, api: Router) -> Router {
        api.layer(from_fn_with_state(self, show_or_pass))
    }
}

/// Every answer tells browsers to be strict, also one that refuses.
pub fn strict(router: Router) -> Router {
    router.layer(map_response(be_strict))
}

/// Pages that are being read.
struct Reading<'a> {
    root: &'a Path,
    pages: BTreeMap<String, Page>,
    bytes: u64,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &Path, at: &str, depth: usize) -> Result<(), PagesError> {
        let failed = |source| PagesError::Read { path: folder.to_owned(), source };
        if depth > MOST_FOLDERS {
            return Err(PagesError::TooBig(self.root.to_owned()));
        }
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(|name| format!("{at}{name}")) else {
                continue;
            };
            if kind.is_dir() {
                self.folder(&path, &format!("{name}/"), depth + 1)?;
            } else if kind.is_file() {
                self.file(&path, name)?;
            } else {
                tracing::warn!("{} is no file, and is not handed out", path.display());
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), PagesError> {
        let failed = |source| PagesError::Read { path: path.to_owned(), source };
        self.bytes += fs::symlink_metadata(path).map_err(failed)?.len();
        if self.bytes > MOST_BYTES {
            return Err(PagesError::TooBig(self.root.to_owned()));
        }
        let bytes = Bytes::from(fs::read(path).map_err(failed)?);
        self.pages.insert(name, Page { content_type: content_type(path), bytes });
        Ok(())
    }
}

/// Browsers are told not to guess, so whatever pages use has a line here.
fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|ending| ending.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// A router inside of another would see the other's parameters among its own, so this stands before
/// the API and takes what is not for it.
async fn show_or_pass(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == "/api" || path.starts_with("/api/") {
        return next.run(request).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    show(&pages, path)
}

fn show(pages: &Pages, path: &str) -> Response {
    if let Some(page) = pages.0.get(path) {
        // A name with a hash in it never means anything else; all others are asked for again.
        let is_hashed = path.starts_with(HASHED);
        let keep = if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = [(header::CONTENT_TYPE, page.content_type), (header::CACHE_CONTROL, keep)];
        return (headers, page.bytes.clone()).into_response();
    }
    let (status, words) = if pages.is_empty() && path == "/" {
        (StatusCode::SERVICE_UNAVAILABLE, NO_PAGES)
    } else {
        (StatusCode::NOT_FOUND, "There is no page at this address.\n")
    };
    let plain = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    (status, [plain, (header::CACHE_CONTROL, "no-store")], words).into_response()
}

async fn be_strict(mut response: Response) -> Response {
    for (name, value) in &HEADERS {
        response.headers_mut().insert(name.clone(), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("assets")).unwrap();
        fs::write(dir.path().join(INDEX), "<!doctype html>").unwrap();
        fs::write(dir.path().join("assets/index-abc.js"), "1").unwrap();
        dir
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let dir = folder();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        let file = outside.path().join("secret.txt");
        std::os::unix::fs::symlink(file, dir.path().join("assets/secret.txt")).unwrap();
        let pages = Pages::read(dir.path()).unwrap();
        let paths: Vec<&str> = pages.0.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/", "/assets/index-abc.js", "/index.html"]);
    }

    #[test]
    fn a_folder_without_pages_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Pages::read(dir.path()), Err(PagesError::NoIndex(_))));
        let missing = dir.path().join("missing");
        let error = Pages::read(&missing).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn every_kind_of_file_that_the_pages_have_is_known() {
        for name in ["a.html", "a.js", "a.css", "a.svg", "a.woff2"] {
            assert_ne!(content_type(Path::new(name)), "application/octet-stream", "{name}");
        }
        assert_eq!(content_type(Path::new("a")), "application/octet-stream");
    }
}
