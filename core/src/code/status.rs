//! The gRPC status codes (<https://grpc.io/docs/guides/status-codes/>), without a gRPC library.

macro_rules! statuses {
    ($($number:literal $name:ident $text:literal;)*) => {
        /// A gRPC status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Status {
            $(#[doc = concat!("`", $text, "`")] $name = $number,)*
        }

        impl Status {
            /// Every status, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number on the wire.
            pub const fn number(self) -> i32 {
                match self { $(Self::$name => $number,)* }
            }

            /// Its name in the gRPC specification.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The status of a number; what the specification does not name counts as `UNKNOWN`.
            pub const fn of(number: i32) -> Self {
                match number { $($number => Self::$name,)* _ => Self::Unknown }
            }
        }
    };
}

statuses! {
    0 Ok "OK";
    1 Cancelled "CANCELLED";
    2 Unknown "UNKNOWN";
    3 InvalidArgument "INVALID_ARGUMENT";
    4 DeadlineExceeded "DEADLINE_EXCEEDED";
    5 NotFound "NOT_FOUND";
    6 AlreadyExists "ALREADY_EXISTS";
    7 PermissionDenied "PERMISSION_DENIED";
    8 ResourceExhausted "RESOURCE_EXHAUSTED";
    9 FailedPrecondition "FAILED_PRECONDITION";
    10 Aborted "ABORTED";
    11 OutOfRange "OUT_OF_RANGE";
    12 Unimplemented "UNIMPLEMENTED";
    13 Internal "INTERNAL";
    14 Unavailable "UNAVAILABLE";
    15 DataLoss "DATA_LOSS";
    16 Unauthenticated "UNAUTHENTICATED";
}
