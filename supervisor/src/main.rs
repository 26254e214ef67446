//! `agt-supervisor`. Started under the name `agt-ringd` it is the small half that holds one ring.

fn main() -> std::process::ExitCode {
    supervisor::main()
}
