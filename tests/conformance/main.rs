//! RFC 6455 conformance on raw sockets: the groups of the Autobahn suite that a server without
//! compression faces, as tables.
//!
//! Each row names the Autobahn case and the section of the RFC that it follows, what the client sends,
//! every frame that must come back, and how the connection ends. A node in this process answers each
//! message with itself. Where Autobahn accepts several outcomes, the row states ours.

mod case;
mod closing;
mod fragmentation;
mod frames;
mod framing;
mod handshake;
mod limits;
mod node;
mod opcodes;
mod pings;
mod reserved_bits;
mod utf8;

#[test]
fn opening_handshake() {
    let (cases, failures) = handshake::run(node::Node::shared());
    case::report("0 opening handshake (ours)", cases, &failures);
}

macro_rules! groups {
    ($($test:ident: $name:literal = $cases:expr;)*) => {
        $(
            #[test]
            fn $test() {
                case::run_group($name, $cases);
            }
        )*
    };
}

groups! {
    framing: "1 framing" = framing::cases();
    pings: "2 pings and pongs" = pings::cases();
    reserved_bits: "3 reserved bits" = reserved_bits::cases();
    opcodes: "4 opcodes" = opcodes::cases();
    fragmentation: "5 fragmentation" = fragmentation::cases();
    utf8: "6 UTF-8" = utf8::cases();
    closing: "7 closing" = closing::cases();
    limits: "9 limits" = limits::cases();
    auto_fragmentation: "10 automatic fragmentation" = fragmentation::automatic();
}
