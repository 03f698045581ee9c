//! Facts about OTP's supervisor, the generator's reach, and the model against the real OTP.

mod facts;
mod generated;
mod real;
mod time;
mod trees;
