//! What tries the server from inside: simulations, what fuzzing calls, and single parts for benchmarks. Nothing of
//! the server names it.

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod line;
#[cfg(all(test, feature = "tls"))]
mod node;
#[cfg(test)]
mod presence;
#[cfg(test)]
mod reactor;
#[cfg(test)]
mod resume;
#[cfg(all(test, feature = "tls"))]
mod tls;
