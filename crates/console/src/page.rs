//! The page: a few files, built in, packed once, and what a browser may do with them.

use std::{io::Write as _, sync::Arc};

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// One file of the page.
struct Source {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! file {
    ($path:literal, $kind:literal, $file:literal) => {
        Source {
            path: $path,
            kind: $kind,
            text: include_str!(concat!("../page/", $file)),
        }
    };
}

/// The library that plots are drawn with, as its authors ship it; also what a report that stands alone is drawn with.
pub const UPLOT: &str = include_str!("../page/vendor/uPlot.iife.min.js");

/// Its style sheet.
pub const UPLOT_STYLE: &str = include_str!("../page/vendor/uPlot.min.css");

const LICENCES: &str = include_str!("../page/vendor/LICENSES.txt");

/// Its licence, which goes where it goes.
#[must_use]
pub fn uplot_licence() -> &'static str {
    let at = LICENCES.find("\nuPlot ").map_or(0, |at| at + 1);
    LICENCES.get(at..).unwrap_or(LICENCES)
}

const INDEX: &str = include_str!("../page/index.html");

/// What the page is made of. The libraries are as their authors ship them, but for the names of their source maps, with their
/// licences beside them.
const FILES: &[Source] = &[
    file!("/", "text/html; charset=utf-8", "index.html"),
    file!("/style.css", "text/css; charset=utf-8", "style.css"),
    file!("/icon.svg", "image/svg+xml", "icon.svg"),
    file!("/app.js", "text/javascript; charset=utf-8", "app.js"),
    file!("/api.js", "text/javascript; charset=utf-8", "api.js"),
    file!("/graph.js", "text/javascript; charset=utf-8", "graph.js"),
    file!("/plots.js", "text/javascript; charset=utf-8", "plots.js"),
    file!("/incident.js", "text/javascript; charset=utf-8", "incident.js"),
    file!("/pages.js", "text/javascript; charset=utf-8", "pages.js"),
    file!("/words.js", "text/javascript; charset=utf-8", "words.js"),
    file!(
        "/vendor/preact.mjs",
        "text/javascript; charset=utf-8",
        "vendor/preact.mjs"
    ),
    file!(
        "/vendor/hooks.mjs",
        "text/javascript; charset=utf-8",
        "vendor/hooks.mjs"
    ),
    file!("/vendor/htm.mjs", "text/javascript; charset=utf-8", "vendor/htm.mjs"),
    file!(
        "/vendor/dagre.esm.js",
        "text/javascript; charset=utf-8",
        "vendor/dagre.esm.js"
    ),
    file!(
        "/vendor/uPlot.iife.min.js",
        "text/javascript; charset=utf-8",
        "vendor/uPlot.iife.min.js"
    ),
    file!(
        "/vendor/uPlot.min.css",
        "text/css; charset=utf-8",
        "vendor/uPlot.min.css"
    ),
    file!(
        "/vendor/LICENSES.txt",
        "text/plain; charset=utf-8",
        "vendor/LICENSES.txt"
    ),
];

/// A file as it is sent.
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    packed: Vec<u8>,
    tag: String,
}

/// All of them.
pub(crate) fn assets() -> Vec<Arc<Asset>> {
    let asset = |source: &Source| {
        let plain = source.text.as_bytes();
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        // writing to memory does not fail; if it did, the plain file would be sent
        let packed = packer
            .write_all(plain)
            .and_then(|()| packer.finish())
            .unwrap_or_default();
        let digest = Sha256::digest(plain);
        let tag = format!(
            "\"{}\"",
            STANDARD.encode(digest.as_slice().get(..12).unwrap_or_default())
        );
        Arc::new(Asset {
            path: source.path,
            kind: source.kind,
            plain,
            packed,
            tag,
        })
    };
    FILES.iter().map(asset).collect()
}

/// Sends a file, packed where the browser takes that, or only says that it is still the same.
pub(crate) async fn send(State(asset): State<Arc<Asset>>, headers: HeaderMap) -> Response {
    let says = |name: HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let common = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (VARY, HeaderValue::from_static("accept-encoding")),
    ];
    let tag = HeaderValue::from_str(&asset.tag).unwrap_or(HeaderValue::from_static("\"\""));
    if says(IF_NONE_MATCH).split(',').any(|known| known.trim() == asset.tag) {
        return (StatusCode::NOT_MODIFIED, common, [(ETAG, tag)]).into_response();
    }
    if says(ACCEPT_ENCODING).contains("gzip") && !asset.packed.is_empty() {
        let packed = [(CONTENT_ENCODING, HeaderValue::from_static("gzip")), (ETAG, tag)];
        return (common, packed, asset.packed.clone()).into_response();
    }
    (common, [(ETAG, tag)], asset.plain).into_response()
}

/// What a browser may load: this server's files and nothing inline, but for the one list of modules, by its digest.
pub(crate) fn policy() -> String {
    let list = INDEX
        .split_once("<script type=\"importmap\">")
        .and_then(|(_, rest)| rest.split_once("</script>"))
        .map_or("", |(list, _)| list);
    let digest = STANDARD.encode(Sha256::digest(list.as_bytes()));
    format!(
        "default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_every_file_that_it_names_is_there() {
        let packed: usize = assets()
            .iter()
            .filter(|asset| !asset.path.ends_with(".txt"))
            .map(|asset| asset.packed.len())
            .sum();
        assert!(packed < 120_000, "{packed} bytes packed");
        let known: Vec<&str> = FILES.iter().map(|file| file.path).collect();
        for file in FILES.iter().filter(|file| !file.path.starts_with("/vendor/")) {
            for quoted in file.text.split(['"', '\'']).filter(|quoted| quoted.starts_with("./")) {
                assert!(known.contains(&&quoted[1..]), "{} names {quoted}", file.path);
            }
        }
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        for file in FILES.iter().filter(|file| !file.path.starts_with("/vendor/")) {
            assert!(!file.text.contains("style=\""), "{} has an inline style", file.path);
            for scheme in ["http://", "https://"] {
                let elsewhere = file.text.replace(&format!("{scheme}www.w3.org/"), "");
                assert!(!elsewhere.contains(scheme), "{} names another server", file.path);
            }
        }
        assert!(!INDEX.contains(" onload=") && !INDEX.contains(" onclick="));
        assert_eq!(
            INDEX.matches("<script").count(),
            1 + INDEX.matches("<script src=").count() + INDEX.matches("<script type=\"module\" src=").count()
        );
        assert!(!policy().contains("unsafe"));
    }
}
