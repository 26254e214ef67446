//! `agt-ringd`: started by the supervisor with its socket as standard input.

fn main() -> std::process::ExitCode {
    ringd::run()
}
