mod escalation;
mod manifest;
mod otp;
mod recovery;
mod replicas;
mod restarts;
mod start_stop;
mod world;
