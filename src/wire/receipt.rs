//! What a sender is told of its message.

use serde::{Deserialize, Serialize};

use super::convert::push_id;
use crate::id::ClientId;

/// What became of a message for one receiver, as its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptStatus {
    /// Written to the socket of at least one of the receiver's connections.
    Sent,
    /// The receiver says that it has it, or answered a ping that was sent behind it.
    Acknowledged,
    /// The receiver has no connection on its node, or all of them ended before the write.
    Offline,
    /// The receiver was away, was waited for, and did not come back in time, or more came for it than is kept.
    Expired,
}

impl ReceiptStatus {
    /// All there are, in the order of their declaration.
    pub(crate) const ALL: &[ReceiptStatus] = &[
        ReceiptStatus::Sent,
        ReceiptStatus::Acknowledged,
        ReceiptStatus::Offline,
        ReceiptStatus::Expired,
    ];

    /// The original's text, on which existing pages depend.
    fn text(self) -> &'static str {
        match self {
            ReceiptStatus::Sent | ReceiptStatus::Acknowledged => "发送成功",
            ReceiptStatus::Offline | ReceiptStatus::Expired => "用户不在线",
        }
    }

    /// The word for it, in receipts as in metrics.
    pub fn label(self) -> &'static str {
        match self {
            ReceiptStatus::Sent => "sent",
            ReceiptStatus::Acknowledged => "acknowledged",
            ReceiptStatus::Offline => "offline",
            ReceiptStatus::Expired => "expired",
        }
    }
}

/// What all receipts of one message have in common, encoded once however many there are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReceiptText {
    /// Up to the word that says what became of the message.
    head: String,
    /// From behind the status.
    tail: String,
}

impl ReceiptText {
    /// For a message of `content`, which is left out if it has more than `limit` bytes; `id` stands for it.
    pub(crate) fn new(content: &str, id: Option<&str>, limit: usize) -> Self {
        let mut head = String::from("{");
        if content.len() <= limit {
            head.push_str("\"content\":");
            push_json(&mut head, content);
            head.push(',');
        }
        head.push_str("\"receipt\":\"");
        let mut tail = String::from("\"");
        if let Some(id) = id {
            tail.push_str(",\"id\":");
            push_json(&mut tail, id);
        }
        tail.push('}');
        ReceiptText { head, tail }
    }

    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// The content of one receipt message: the original's two members, then for whom, a status for programs,
    /// and the message's id if it has one.
    pub(crate) fn content(&self, to: &ClientId, status: ReceiptStatus) -> String {
        let mut content = String::with_capacity(self.len() + 100);
        content.push_str(&self.head);
        content.push_str(status.text());
        content.push_str("\",\"to\":");
        push_exact(&mut content, to);
        content.push_str(",\"status\":\"");
        content.push_str(status.label());
        content.push_str(&self.tail);
        content
    }
}

/// Adds an id that every reader of JSON reads as it is: `to` is a member of our own, and JavaScript rounds
/// numbers from 2^53 on.
fn push_exact(out: &mut String, id: &ClientId) {
    match id {
        ClientId::Int(number) if number.unsigned_abs() >= 1 << 53 => {
            push_json(out, &id.to_string())
        }
        _ => push_id(out, id),
    }
}

fn push_json(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is always valid JSON"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_hold_the_original_members_first() {
        assert_eq!(
            ReceiptText::new("\"x\"", None, 3).content(&2.into(), ReceiptStatus::Sent),
            r#"{"content":"\"x\"","receipt":"发送成功","to":2,"status":"sent"}"#
        );
    }

    #[test]
    fn no_receiver_is_rounded() {
        for (id, text) in [
            ((1 << 53) - 1, "9007199254740991"),
            (1 << 53, "\"9007199254740992\""),
            (-9_007_199_254_740_993, "\"-9007199254740993\""),
            (i64::MIN, "\"-9223372036854775808\""),
        ] {
            let content = ReceiptText::new("1", None, 3).content(&id.into(), ReceiptStatus::Sent);
            assert!(content.contains(&format!("\"to\":{text},")), "{content}");
        }
    }

    #[test]
    fn a_receiver_that_is_another_text_is_a_string() {
        let receiver = "a\"b".parse().unwrap();
        let content = ReceiptText::new("1", None, 3).content(&receiver, ReceiptStatus::Sent);
        assert!(content.contains(r#""to":"a\"b","#), "{content}");
    }

    #[test]
    fn an_id_stands_for_content_above_the_limit() {
        let guid = "8f14e45f-ceea-467f-a9b1-0000000003e9".parse().unwrap();
        assert_eq!(
            ReceiptText::new("\"xx\"", Some("a\"b"), 3).content(&guid, ReceiptStatus::Offline),
            r#"{"receipt":"用户不在线","to":"8f14e45f-ceea-467f-a9b1-0000000003e9","status":"offline","id":"a\"b"}"#
        );
    }
}
