//! The page's files, built into the program. Nothing else on the disk is ever served.

/// One file as HTTP serves it.
pub(crate) struct Asset {
    pub(crate) content_type: &'static str,
    pub(crate) body: &'static str,
}

/// The file at `path`.
pub(crate) fn find(path: &str) -> Option<Asset> {
    const HTML: &str = "text/html; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    let (content_type, body) = match path {
        "/" | "/index.html" => (HTML, include_str!("page/index.html")),
        "/style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        "/icon.svg" | "/favicon.ico" => ("image/svg+xml", include_str!("page/icon.svg")),
        "/app.js" => (SCRIPT, include_str!("page/app.js")),
        "/api.js" => (SCRIPT, include_str!("page/api.js")),
        // The client that everybody's page may use, and its parts.
        "/im.js" => (SCRIPT, include_str!("../../client/im.js")),
        "/im/address.js" => (SCRIPT, include_str!("../../client/im/address.js")),
        "/im/browser.js" => (SCRIPT, include_str!("../../client/im/browser.js")),
        "/im/client.js" => (SCRIPT, include_str!("../../client/im/client.js")),
        "/im/codes.js" => (SCRIPT, include_str!("../../client/im/codes.js")),
        "/im/core.js" => (SCRIPT, include_str!("../../client/im/core.js")),
        "/im/dialect.js" => (SCRIPT, include_str!("../../client/im/dialect.js")),
        "/im/emitter.js" => (SCRIPT, include_str!("../../client/im/emitter.js")),
        "/im/engine.js" => (SCRIPT, include_str!("../../client/im/engine.js")),
        "/im/error.js" => (SCRIPT, include_str!("../../client/im/error.js")),
        "/im/follower.js" => (SCRIPT, include_str!("../../client/im/follower.js")),
        "/im/inbox.js" => (SCRIPT, include_str!("../../client/im/inbox.js")),
        "/im/keeper.js" => (SCRIPT, include_str!("../../client/im/keeper.js")),
        "/im/leader.js" => (SCRIPT, include_str!("../../client/im/leader.js")),
        "/im/limit.js" => (SCRIPT, include_str!("../../client/im/limit.js")),
        "/im/line.js" => (SCRIPT, include_str!("../../client/im/line.js")),
        "/im/liveness.js" => (SCRIPT, include_str!("../../client/im/liveness.js")),
        "/im/message.js" => (SCRIPT, include_str!("../../client/im/message.js")),
        "/im/options.js" => (SCRIPT, include_str!("../../client/im/options.js")),
        "/im/page.js" => (SCRIPT, include_str!("../../client/im/page.js")),
        "/im/pauses.js" => (SCRIPT, include_str!("../../client/im/pauses.js")),
        "/im/probe.js" => (SCRIPT, include_str!("../../client/im/probe.js")),
        "/im/readiness.js" => (SCRIPT, include_str!("../../client/im/readiness.js")),
        "/im/recent.js" => (SCRIPT, include_str!("../../client/im/recent.js")),
        "/im/rooms.js" => (SCRIPT, include_str!("../../client/im/rooms.js")),
        "/im/rosters.js" => (SCRIPT, include_str!("../../client/im/rosters.js")),
        "/im/scope.js" => (SCRIPT, include_str!("../../client/im/scope.js")),
        "/im/socket.js" => (SCRIPT, include_str!("../../client/im/socket.js")),
        "/im/storage.js" => (SCRIPT, include_str!("../../client/im/storage.js")),
        "/im/stream.js" => (SCRIPT, include_str!("../../client/im/stream.js")),
        "/im/tabs.js" => (SCRIPT, include_str!("../../client/im/tabs.js")),
        "/im/time.js" => (SCRIPT, include_str!("../../client/im/time.js")),
        "/store.js" => (SCRIPT, include_str!("page/store.js")),
        "/view.js" => (SCRIPT, include_str!("page/view.js")),
        "/i18n.js" => (SCRIPT, include_str!("page/i18n.js")),
        _ => return None,
    };
    Some(Asset { content_type, body })
}
