//! The template of the address that clients connect to: checked once, when a client of ours is built.
//!
//! Pure. What it lets through is an address that every WebSocket client takes, and one that leads to each node.

use crate::error::{Error, Result};

/// What a template may have filled in.
const PLACES: [&str; 3] = ["{server}", "{index}", "{path}"];

/// What may stand for `{server}`.
pub(super) enum Nodes<'a> {
    /// The names of all nodes.
    All(Vec<&'a str>),
    /// They stand in a table that is not known yet; this is the address of one.
    Unknown(&'a str),
}

/// Refuses a template with which clients could not connect, or not to their own node.
pub(super) fn check(template: &str, path: &str, nodes: &Nodes) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::config(
            "public_url",
            format!("{template:?} {why}; for example wss://im.example.com/{{index}}{{path}}"),
        ))
    };
    let Some((scheme, _)) = template.split_once("://").filter(|(s, _)| matches!(*s, "ws" | "wss"))
    else {
        return refuse("must start with ws:// or wss://, in small letters");
    };
    if template.contains('#') {
        return refuse("has a fragment (#), which no WebSocket client accepts");
    }
    if template.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("holds a blank");
    }
    let rest = PLACES.iter().fold(template.to_owned(), |text, place| text.replace(place, ""));
    if rest.contains(['{', '}']) {
        return refuse("holds braces that are none of {server}, {index} and {path}");
    }
    let (known, count) = match nodes {
        Nodes::All(names) => (names.as_slice(), Some(names.len())),
        Nodes::Unknown(address) => (std::slice::from_ref(address), None),
    };
    for (index, server) in known.iter().enumerate() {
        let url = fill(template, (index, server)).replace("{path}", path);
        if let Err(why) = check_authority(&url[scheme.len() + 3..]) {
            return refuse(&format!("{why} (as in {url})"));
        }
    }
    let leads_to_one = !template.contains("{server}") && !template.contains("{index}");
    if count != Some(1) && leads_to_one {
        return refuse(&format!(
            "is one address for {} nodes, and a client can connect to its own node only: it needs \
             {{server}} or {{index}}, by which a proxy finds the node",
            count.map_or_else(|| "all".to_owned(), |count| count.to_string())
        ));
    }
    Ok(())
}

/// The template with what stands for `{index}` and `{server}` filled in.
pub(super) fn fill(template: &str, (index, server): (usize, &str)) -> String {
    template.replace("{server}", server).replace("{index}", &index.to_string())
}

/// Host and port of what stands behind `ws://`.
fn check_authority(rest: &str) -> Result<(), &'static str> {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((host, port)) = rest.split_once(']') else {
                return Err("has an IPv6 address without its closing bracket");
            };
            (host, port)
        }
        None if authority.matches(':').count() > 1 => {
            return Err("needs brackets around an IPv6 address, as in [::1]");
        }
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() {
        return Err("names no host");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(port) if is_port(port) => Ok(()),
        _ => Err("has a port that is no number between 1 and 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(template: &str, nodes: &[&str]) -> Option<String> {
        check(template, "/ws", &Nodes::All(nodes.to_vec())).err().map(|error| error.to_string())
    }

    #[test]
    fn where_nodes_come_and_go_an_address_stands_for_all() {
        let refusal = |template, address| {
            check(template, "/ws", &Nodes::Unknown(address)).err().map(|error| error.to_string())
        };
        for template in ["ws://{server}{path}", "ws://{server}:6001/ws", "wss://x/s{index}{path}"] {
            assert_eq!(refusal(template, "im-0.example.com"), None, "{template}");
        }
        assert!(refusal("ws://{server}:6001/ws", "im-0:6001").unwrap().contains("im-0:6001:6001"));
        assert!(refusal("wss://x/ws", "im-0").unwrap().contains("for all nodes"));
    }

    #[test]
    fn what_leads_to_every_node_is_taken() {
        let nodes = ["10.0.0.1:6001", "[::1]:6002", "im-2"];
        for template in [
            "ws://{server}{path}",
            "wss://im.example.com/{index}{path}",
            "wss://im.example.com{path}/{index}",
            "wss://im{index}.example.com:8443{path}",
            "wss://im.example.com:844{index}{path}",
            "wss://im.example.com{path}?node={index}&v=1",
        ] {
            assert_eq!(refusal(template, &nodes), None, "{template}");
        }
        assert_eq!(refusal("wss://im.example.com/ws", &["only"]), None, "one node needs no place");
    }

    #[test]
    fn what_no_client_could_use_is_refused() {
        for (template, why) in [
            ("http://x/ws", "ws://"),
            ("WSS://x/ws", "small letters"),
            ("ws:/x", "ws://"),
            ("", "ws://"),
            ("wss://", "names no host"),
            ("wss:///{index}/ws", "names no host"),
            ("wss://:8443/{index}", "names no host"),
            ("wss://?{index}", "names no host"),
            ("wss://x/ws#{index}", "fragment"),
            ("wss://x y/{index}", "blank"),
            ("wss://x/{index}\n", "blank"),
            ("wss://x/{indx}", "braces"),
            ("wss://x/{index", "braces"),
            ("wss://x/{{index}}", "braces"),
            ("wss://x/{Server}", "braces"),
            ("wss://x/ws", "one address for 2 nodes"),
            ("wss://x{path}", "one address for 2 nodes"),
            ("wss://x:port/{index}", "port"),
            ("wss://x:/{index}", "port"),
            ("wss://x:99999/{index}", "port"),
            ("wss://::1/{index}", "brackets"),
            ("wss://[::1/{index}", "bracket"),
        ] {
            let text =
                refusal(template, &["a", "b"]).unwrap_or_else(|| panic!("{template} is taken"));
            assert!(text.contains(why) && text.contains("public_url"), "{template}: {text}");
        }
        assert!(refusal("ws://{server}{path}", &["::1"]).unwrap().contains("as in ws://::1/ws"));
    }
}
