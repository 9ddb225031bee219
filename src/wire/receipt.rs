//! What a sender is told of its message.

use serde::Serialize;

use crate::id::ClientId;

/// What became of a message for one receiver, as its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiptStatus {
    /// Written to the socket of at least one of the receiver's connections.
    Sent,
    /// The receiver has no connection on its node, or all of them ended before the write.
    Offline,
}

impl ReceiptStatus {
    /// The original's text, on which existing pages depend.
    fn text(self) -> &'static str {
        match self {
            ReceiptStatus::Sent => "发送成功",
            ReceiptStatus::Offline => "用户不在线",
        }
    }
}

/// The content of a receipt message: the original's two members, then for whom, and a status for programs.
pub(crate) fn receipt_content(content: &str, to: ClientId, status: ReceiptStatus) -> String {
    #[derive(Serialize)]
    struct Receipt<'a> {
        content: &'a str,
        receipt: &'a str,
        to: ClientId,
        status: &'a str,
    }

    let status_word = match status {
        ReceiptStatus::Sent => "sent",
        ReceiptStatus::Offline => "offline",
    };
    serde_json::to_string(&Receipt { content, receipt: status.text(), to, status: status_word })
        .expect("strings and ids are always valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_hold_the_original_members_first() {
        assert_eq!(
            receipt_content("\"x\"", 2.into(), ReceiptStatus::Sent),
            r#"{"content":"\"x\"","receipt":"发送成功","to":2,"status":"sent"}"#
        );
    }
}
