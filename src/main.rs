#[global_allocator]
static ALLOCATOR: umbel::script::CountingAllocator = umbel::script::CountingAllocator;

fn main() -> std::process::ExitCode {
    umbel::cli::main()
}
