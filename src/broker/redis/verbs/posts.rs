//! Messages as the append script takes them: what is logged where, and copies for several nodes as one.
//!
//! Made by `append`; pure.

use crate::wire::Envelope;

/// What the script is to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Logs it in the stream of its node.
    Node,
    /// Logs it once, in the stream that all nodes read.
    All,
    Volatile,
    /// Publishes it as without a log: a node of another make cannot read a number in front.
    Plain,
}

/// One message and the nodes that get it.
#[derive(Debug, PartialEq)]
pub(super) struct Post<'a> {
    what: What,
    payload: String,
    nodes: Vec<&'a str>,
}

impl Post<'_> {
    /// How many copies are published.
    pub(super) fn copies(&self) -> usize {
        self.nodes.len()
    }

    /// Appends the arguments that stand for it, as they travel; how many those are.
    pub(super) fn pack(&self, packed: &mut Vec<u8>) -> usize {
        let what: &[u8] = match self.what {
            What::Node => b"n",
            What::All => b"a",
            What::Volatile => b"v",
            What::Plain => b"p",
        };
        push(packed, what);
        push(packed, self.payload.as_bytes());
        push(packed, self.nodes.len().to_string().as_bytes());
        self.nodes.iter().for_each(|node| push(packed, node.as_bytes()));
        3 + self.nodes.len()
    }
}

/// Appends one argument of a command.
pub(super) fn push(packed: &mut Vec<u8>, argument: &[u8]) {
    packed.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
    packed.extend_from_slice(argument);
    packed.extend_from_slice(b"\r\n");
}

/// The messages in their order. `served` says whether a node is of this library.
pub(super) fn posts<'a>(
    outgoing: &'a [(&'a str, Envelope)],
    served: impl Fn(&str) -> bool,
) -> Vec<Post<'a>> {
    let mut posts: Vec<Post> = Vec::new();
    let mut last: Option<&Envelope> = None;
    for (node, envelope) in outgoing {
        let (message, volatile) = envelope.message();
        let to_all = matches!(message, Envelope::Channel { .. });
        // The same to the next node, as it stands in a batch.
        if to_all
            && last == Some(envelope)
            && let Some(post) = posts.last_mut()
            && !post.nodes.contains(node)
        {
            post.nodes.push(node);
            // One log for all nodes: what one cannot read, nobody gets from it.
            if !served(node) {
                post.what = What::Plain;
            }
            continue;
        }
        last = Some(envelope);
        let what = match (served(node), volatile) {
            (false, _) => What::Plain,
            (true, true) => What::Volatile,
            (true, false) if to_all => What::All,
            (true, false) => What::Node,
        };
        posts.push(Post { what, payload: message.encode(), nodes: vec![node] });
    }
    posts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Envelope {
        Envelope::Channel {
            sender: 0.into(),
            channel: Some(name.into()),
            content: "1".into(),
            trace: None,
        }
    }

    fn kick(client: i64) -> Envelope {
        Envelope::ForceOffline { client: client.into() }
    }

    /// What, and to how many.
    fn shapes(outgoing: &[(&str, Envelope)], served: &[&str]) -> Vec<(What, usize)> {
        let posts = posts(outgoing, |node| served.contains(&node));
        posts.iter().map(|post| (post.what, post.copies())).collect()
    }

    #[test]
    fn copies_for_several_nodes_are_one_message() {
        let volatile = || Envelope::Volatile(Box::new(channel("c")));
        let outgoing = [
            ("a", kick(1)),
            ("a", channel("c")),
            ("b", channel("c")),
            ("a", channel("c")),
            ("a", volatile()),
            ("b", volatile()),
            ("b", kick(1)),
            ("b", kick(1)),
        ];
        let expected = [
            (What::Node, 1),
            (What::All, 2),
            (What::All, 1),
            (What::Volatile, 2),
            (What::Node, 1),
            (What::Node, 1),
        ];
        assert_eq!(shapes(&outgoing, &["a", "b"]), expected);
    }

    #[test]
    fn a_node_that_cannot_read_the_log_gets_what_it_can_read() {
        let outgoing = [
            ("a", channel("c")),
            ("old", channel("c")),
            ("a", channel("d")),
            ("old", kick(1)),
            ("a", kick(1)),
        ];
        let expected = [(What::Plain, 2), (What::All, 1), (What::Plain, 1), (What::Node, 1)];
        assert_eq!(shapes(&outgoing, &["a"]), expected);
    }

    #[test]
    fn arguments_travel_as_bulk_strings() {
        let mut packed = Vec::new();
        let count = posts(&[("n:1", kick(7))], |_| true)[0].pack(&mut packed);
        let text = "$1\r\nn\r\n$25\r\n__FreeIM__(ForceOffline)7\r\n$1\r\n1\r\n$3\r\nn:1\r\n";
        assert_eq!((count, String::from_utf8(packed).unwrap().as_str()), (4, text));
    }
}
