mod otp;
mod world;
