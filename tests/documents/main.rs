//! What is true of the documents.

mod links;
mod names;
mod text;
mod translations;
