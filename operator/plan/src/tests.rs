mod otp;
mod restarts;
mod start_stop;
mod world;
