//! The retrofill binary.
fn main() {
    print!("{}", retrofill::config::schema());
}
