//! The page as it is served: one entry for each file in the folder beside this one.

use crate::web::Response;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page may do: load its own files and ask here. Nothing that stands in a page, a name or a note
/// can become a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, media type and text.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", CSS, include_str!("page/style.css")),
    ("/page/app.js", SCRIPT, include_str!("page/app.js")),
    ("/page/ask.js", SCRIPT, include_str!("page/ask.js")),
    ("/page/client.js", SCRIPT, include_str!("page/client.js")),
    ("/page/cluster.js", SCRIPT, include_str!("page/cluster.js")),
    ("/page/follow.js", SCRIPT, include_str!("page/follow.js")),
    ("/page/language.js", SCRIPT, include_str!("page/language.js")),
    ("/page/node.js", SCRIPT, include_str!("page/node.js")),
    ("/page/slots.js", SCRIPT, include_str!("page/slots.js")),
    ("/page/show.js", SCRIPT, include_str!("page/show.js")),
    ("/page/webhook.js", SCRIPT, include_str!("page/webhook.js")),
    ("/page/words.js", SCRIPT, include_str!("page/words.js")),
];

/// Whether the page has a file of that path.
pub(super) fn has(path: &str) -> bool {
    FILES.iter().any(|(name, ..)| *name == path)
}

/// The file of that path.
pub(super) fn file(path: &str) -> Option<Response> {
    let (_, kind, text) = FILES.iter().find(|(name, ..)| *name == path)?;
    Some(Response::new(200, kind, *text).with("Content-Security-Policy", POLICY))
}
