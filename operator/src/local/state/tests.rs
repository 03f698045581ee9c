//! The state in a house where processes do at once what they are told, unless a test says otherwise.

mod causes;
mod house;
mod life;
mod people;
