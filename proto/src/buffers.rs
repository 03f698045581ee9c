//! How much memory a call keeps ready.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What a call begins with in each direction, in bytes; a buffer grows to the messages that go through it.
const SIZE: usize = 256;
/// So much is gathered before it is sent on, in bytes: tonic's own default.
const YIELD: usize = 32 << 10;

/// The codec of calls that are many and mostly silent: tonic's own keeps 8 KiB ready in each direction.
#[derive(Clone, Debug)]
pub struct Small<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Small<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Small<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(SIZE, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(SIZE, YIELD))
    }
}
