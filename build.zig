//! The build of Tidewire. Every command is `zig build STEP`; the steps are the struct below, and
//! each later block is titled by the command that it serves. Nothing is registered here: sources,
//! tests, fuzz targets, benches and tools are found by listing their folders, so a new file takes
//! part by standing in the right place. A folder that is missing or empty is no error.

const std = @import("std");
const builtin = @import("builtin");

const LazyPath = std.Build.LazyPath;
const Compile = std.Build.Step.Compile;
const Run = std.Build.Step.Run;
const Strings = []const []const u8;

const zig_version_wanted = "0.15.2";

comptime {
    if (!std.mem.eql(u8, builtin.zig_version_string, zig_version_wanted)) {
        @compileError("Tidewire builds with Zig " ++ zig_version_wanted ++ " and this is Zig " ++
            builtin.zig_version_string ++ ": run script/build, which brings the right one.");
    }
}

const Steps = struct {
    install: *std.Build.Step,
    run: *std.Build.Step,
    check: *std.Build.Step,
    @"test": *std.Build.Step,
    warnings: *std.Build.Step,
    scenario: *std.Build.Step,
    fuzz: *std.Build.Step,
    bench: *std.Build.Step,
    guard: *std.Build.Step,
    asan: *std.Build.Step,
    tsan: *std.Build.Step,
    tidy: *std.Build.Step,
    format: *std.Build.Step,
    format_check: *std.Build.Step,
    docs: *std.Build.Step,

    fn init(b: *std.Build) Steps {
        return .{
            .install = b.getInstallStep(),
            .run = b.step("run", "Run the program: zig build run -- serve --demo"),
            .check = b.step("check", "All that must pass before a merge, short of scenarios"),
            .@"test" = b.step("test", "Unit tests, corpus replay, tidy, generated documents"),
            .warnings = b.step("warnings", "Compile everything with gcc and with clang, -Werror"),
            .scenario = b.step("scenario", "Run tests/scenario against zig-out/bin/tidewire"),
            .fuzz = b.step("fuzz", "Run the fuzz targets (-Dfuzz-seconds=N, -Dfilter=NAME)"),
            .bench = b.step("bench", "Build bench/; with `-- NAME args` also run that program"),
            .guard = b.step("guard", "zig-out/guard/guard: hot paths for bench/guard/guard.py"),
            .asan = b.step("asan", "zig-out/asan/tidewire, and its unit tests (memory)"),
            .tsan = b.step("tsan", "zig-out/tsan/tidewire, and its unit tests (data races)"),
            .tidy = b.step("tidy", "Check the rules of the architecture (tools/tidy.c)"),
            .format = b.step("format", "Rewrite all C sources with clang-format 14"),
            .format_check = b.step("format-check", "Compare all C sources with clang-format 14"),
            .docs = b.step("docs", "Rewrite the generated documents"),
        };
    }
};

/// Folders whose .c files, and those of the folders below them, are the program. main.c comes on
/// top; it alone is not in the library.
const program_roots = [_][]const u8{
    "protocol", "broker", "actors", "gateways", "cli", "clients/c", "bench/load",
};

/// What is embedded into the program: folder on disk, and the prefix of its paths in tw_assets.
const asset_roots = [_]struct { dir: []const u8, prefix: []const u8 }{
    .{ .dir = "web/dist/demo", .prefix = "demo" },
    .{ .dir = "web/dist/inspector", .prefix = "inspector" },
};

/// Documents that a program of tools/ prints; they are committed, and compared by `zig build test`.
const generated_docs = [_]struct { tool: []const u8, doc: []const u8 }{
    .{ .tool = "protocol_doc", .doc = "docs/messages.md" },
};

/// The libraries, each named once. The first pkg-config name that is known counts; `bare` is
/// linked where the package brings no .pc file (nng on Debian).
const libraries = [_]Library{
    .{ .names = &.{"nng"}, .bare = "nng" },
    .{ .names = &.{"libwebsockets"} },
    .{ .names = &.{ "libmongoc-1.0", "mongoc2" } },
    .{ .names = &.{ "libbson-1.0", "bson2" } },
    .{ .names = &.{"libcurl"} },
    .{ .names = &.{ "msgpack", "msgpack-c" } }, // Debian 12, Debian 13
    .{ .names = &.{"sqlite3"} },
    .{ .names = &.{"libcyaml"} },
    .{ .names = &.{"libpcre2-8"} },
    .{ .names = &.{"openssl"} },
};
const test_libraries = [_]Library{
    .{ .names = &.{"cmocka"} },
};
const no_clang = "no clang was found: script/test installs it";
const no_gcc = "no gcc was found: script/test installs it";

/// The sources of libtidewire, the C client that others link: clients/c without what speaks
/// websocket (the command line's), and what that stands on. Only clients/c/tidewire.h is public.
const client_roots = [_][]const u8{ "clients/c", "protocol" };
const client_skip = [_][]const u8{ "_test.c", "_fuzz.c", "stream.c", "websocket.c" };
const client_libraries = [_]Library{
    .{ .names = &.{"nng"}, .bare = "nng" },
    .{ .names = &.{ "msgpack", "msgpack-c" } },
    .{ .names = &.{ "libbson-1.0", "bson2" } },
};
/// Stands in protocol/version.h, for the program too.
const version = version: {
    const header = @embedFile("protocol/version.h");
    const name = "#define TW_VERSION \"";
    const begin = std.mem.indexOf(u8, header, name).? + name.len;
    const end = std.mem.indexOfScalarPos(u8, header, begin, '"').?;
    break :version header[begin..end];
};
const client_soname = "libtidewire.so.1";

/// The main of a fuzz target that runs stored inputs only.
const replay_source = "tests/support/replay.c";

const Library = struct { names: Strings, bare: ?[]const u8 = null };

/// The one list of flags, for every compiler and every build.
const flags_all = [_][]const u8{
    "-std=c17", "-D_GNU_SOURCE",           "-Wall", "-Wextra", "-Wconversion",
    "-Wshadow", "-Wmissing-prototypes",    "-Wvla", "-Werror", "-g",
    "-pthread", "-fno-omit-frame-pointer",
};

const Sanitizer = enum { asan, tsan };

/// All that the blocks below share.
const Context = struct {
    b: *std.Build,
    steps: Steps,
    target: std.Build.ResolvedTarget,
    flags: Strings, // flags_all and what depends on this checkout
    debug: bool,
    filter: ?[]const u8,
    whole: bool, // false under -Donly: the program itself cannot be linked
    python: []const u8,
    libs: Resolved, // what the program links
    test_libs: Resolved, // what tests link on top
    program: Strings, // sources of the library
    support: Strings, // tests/support, linked into tests and fuzz targets
    assets: LazyPath, // web_assets.c
};

/// What pkg-config answered for a list of libraries.
const Resolved = struct {
    include_dirs: Strings,
    library_dirs: Strings,
    names: Strings,
};

pub fn build(b: *std.Build) void {
    const steps = Steps.init(b);
    const filter = b.option([]const u8, "filter", "Only tests whose path contains this");
    const only = b.option([]const u8, "only", "Build only sources below, as in protocol/,broker/");
    const debug = b.option(bool, "debug", "Compile with -O0 for a debugger") orelse false;
    const fuzz_seconds = b.option(u32, "fuzz-seconds", "For each target (20)") orelse 20;

    const c = Context{
        .b = b,
        .steps = steps,
        .target = b.standardTargetOptions(.{}),
        .flags = allFlags(b, debug),
        .debug = debug,
        .filter = filter,
        .whole = only == null and exists(b, "main.c"),
        .python = b.findProgram(&.{ "python3", "python" }, &.{}) catch "python3",
        .libs = resolve(b, &libraries),
        .test_libs = resolve(b, &test_libraries),
        .program = programSources(b, only),
        .support = listFiles(b, "tests/support", .{ .skip = &.{ "_test.c", "replay.c" } }),
        .assets = webAssets(b),
    };

    // Artifacts first ------------------------------------------------------------------------
    const library = zigLibrary(c, "tidewire", c.program, &.{c.assets});
    // An archive needs a member, and tests/support may have none.
    const support = zigLibrary(c, "support", c.support, &.{
        b.addWriteFiles().add("support_none.c", "typedef int support_none;\n"),
    });
    const tidewire = if (c.whole)
        zigProgram(c, "tidewire", &.{"main.c"}, &.{library})
    else
        null;
    const tidy = if (exists(b, "tools/tidy.c"))
        zigProgram(c, "tidy", &.{"tools/tidy.c"}, &.{})
    else
        null;

    // zig build, zig build run ---------------------------------------------------------------
    if (tidewire) |exe| {
        b.installArtifact(exe);
        const run = b.addRunArtifact(exe);
        if (b.args) |args| run.addArgs(args);
        steps.run.dependOn(&run.step);
    } else {
        b.installArtifact(library);
        steps.run.dependOn(&b.addFail("the program is not built: no main.c, or -Donly").step);
    }

    // zig build: zig-out/lib, zig-out/include, for services in C --------------------------------
    if (c.whole) clientLibrary(c);

    // zig build tidy -------------------------------------------------------------------------
    if (tidy) |exe| {
        const run = runTest(c, "tidy", "tidy", exe.getEmittedBin(), &.{b.pathFromRoot(".")});
        steps.tidy.dependOn(&run.step);
    }

    // zig build test -------------------------------------------------------------------------
    if (filter == null) steps.@"test".dependOn(steps.tidy);
    for (unitSources(b)) |source| {
        if (!selected(c, source)) continue;
        const exe = zigProgram(c, targetName(b, source), &.{source}, &.{ support, library });
        linkResolved(exe.root_module, c.test_libs);
        const run = runTest(c, "unit", stem(source), exe.getEmittedBin(), &.{});
        if (tidy) |t| if (std.mem.eql(u8, source, "tools/tidy_test.c")) {
            run.addFileArg(t.getEmittedBin());
        };
        steps.@"test".dependOn(&run.step);
    }
    for (fuzzSources(b)) |source| {
        if (!selected(c, source) or !exists(b, replay_source)) continue;
        const sources: Strings = &.{ source, replay_source };
        const exe = zigProgram(c, targetName(b, source), sources, &.{ support, library });
        linkResolved(exe.root_module, c.test_libs);
        const run = runTest(c, "unit", stem(source), exe.getEmittedBin(), &.{corpusDir(b, source)});
        steps.@"test".dependOn(&run.step);
    }
    // zig build bench ------------------------------------------------------------------------
    // The benches link the very library that the program ships with: other flags would measure
    // another program.
    const bench_shared = benchShared(b);
    for (listFiles(b, "bench", .{ .skip = &.{"_link.c"} })) |source| {
        const sources = concat(b, &.{source}, bench_shared);
        const exe = zigProgram(c, baseName(source), sources, &.{ support, library });
        linkResolved(exe.root_module, c.test_libs);
        const install = b.addInstallArtifact(exe, .{
            .dest_dir = .{ .override = .{ .custom = "bench" } },
        });
        steps.bench.dependOn(&install.step);
        const args = b.args orelse continue;
        if (args.len > 0 and std.mem.eql(u8, args[0], baseName(source))) {
            const run = b.addRunArtifact(exe);
            run.addArgs(args[1..]);
            run.setCwd(b.path("."));
            run.setEnvironmentVariable("TIDEWIRE_BIN", b.getInstallPath(.bin, "tidewire"));
            run.step.dependOn(b.getInstallStep());
            steps.bench.dependOn(&run.step);
        }
    }

    // `bench -- report` and `bench -- growth` run many of them: programs for Python.
    for ([_][]const u8{ "report", "growth" }) |name| {
        const args = b.args orelse continue;
        if (args.len == 0 or !std.mem.eql(u8, args[0], name)) continue;
        const run = b.addSystemCommand(&.{ c.python, b.fmt("bench/{s}.py", .{name}) });
        run.addArgs(args[1..]);
        run.setCwd(b.path("."));
        run.stdio = .inherit;
        run.step.dependOn(b.getInstallStep());
        for (steps.bench.dependencies.items) |installed| run.step.dependOn(installed);
        steps.bench.dependOn(&run.step);
    }

    // zig build guard ------------------------------------------------------------------------
    guardProgram(c);

    // zig build docs -------------------------------------------------------------------------
    const rewrite = b.addUpdateSourceFiles();
    steps.docs.dependOn(&rewrite.step);
    for (toolSources(b)) |source| {
        const exe = zigProgram(c, baseName(source), &.{source}, &.{library});
        if (filter == null) steps.@"test".dependOn(&exe.step);
        for (generated_docs) |generated| {
            if (!std.mem.eql(u8, baseName(source), generated.tool)) continue;
            const printed = b.addRunArtifact(exe).captureStdOut();
            rewrite.addCopyFileToSource(printed, generated.doc);
            if (filter != null) continue;
            const compare = b.addSystemCommand(&.{c.python});
            compare.addFileArg(b.path("tests/run.py"));
            compare.addArgs(&.{ "compare", "--results", resultsDir(b, "tidy"), generated.doc });
            compare.addFileArg(printed);
            asTest(c, compare, b.fmt("compare {s}", .{generated.doc}));
            steps.@"test".dependOn(&compare.step);
        }
    }

    // zig build scenario ---------------------------------------------------------------------
    const scenario = b.addSystemCommand(&.{ c.python, "tests/run.py", "scenario" });
    scenario.setCwd(b.path("."));
    scenario.step.dependOn(b.getInstallStep());
    scenario.step.dependOn(steps.bench);
    if (b.args) |args| scenario.addArgs(args);
    steps.scenario.dependOn(&scenario.step);

    // zig build asan, zig build tsan ---------------------------------------------------------
    const clang = findClang(b);
    sanitized(c, clang, .asan, steps.asan);
    sanitized(c, clang, .tsan, steps.tsan);

    // zig build fuzz -------------------------------------------------------------------------
    fuzzTargets(c, clang, fuzz_seconds);

    // zig build warnings ---------------------------------------------------------------------
    warnings(c, clang);

    // zig build format -----------------------------------------------------------------------
    const check_format = formatting(c);

    // zig build check ------------------------------------------------------------------------
    steps.check.dependOn(b.getInstallStep());
    steps.check.dependOn(steps.@"test");
    steps.check.dependOn(steps.warnings);
    steps.check.dependOn(steps.bench);
    if (check_format) |run| steps.check.dependOn(run);
}

// ---------------------------------------------------------------------------------------------
// Flags and libraries

fn allFlags(b: *std.Build, debug: bool) Strings {
    var flags: std.ArrayList([]const u8) = .empty;
    pushAll(b, &flags, &flags_all);
    const root = b.pathFromRoot(".");
    // Paths in asserts and logs read the same on every machine.
    push(b, &flags, b.fmt("-fmacro-prefix-map={s}/=", .{root}));
    push(b, &flags, b.fmt("-I{s}", .{root}));
    push(b, &flags, if (debug) "-O0" else "-O2");
    return flags.items;
}

/// Asks pkg-config once per library. One that it does not know is linked by its bare name, if it
/// has one; else a warning says how to get it, before the compiler misses its header.
fn resolve(b: *std.Build, wanted: []const Library) Resolved {
    var include_dirs: std.ArrayList([]const u8) = .empty;
    var library_dirs: std.ArrayList([]const u8) = .empty;
    var names: std.ArrayList([]const u8) = .empty;
    for (wanted) |library| {
        const answer = for (library.names) |name| {
            var code: u8 = undefined;
            const ask = [_][]const u8{ "pkg-config", "--cflags", "--libs", name };
            break b.runAllowFail(&ask, &code, .Ignore) catch continue;
        } else if (library.bare) |bare| b.fmt("-l{s}", .{bare}) else {
            std.log.warn("no library {s}: script/build installs it", .{library.names[0]});
            continue;
        };
        var words = std.mem.tokenizeAny(u8, answer, " \r\n\t");
        while (words.next()) |word| {
            if (std.mem.startsWith(u8, word, "-I")) addOnce(b, &include_dirs, word[2..]);
            if (std.mem.startsWith(u8, word, "-L")) addOnce(b, &library_dirs, word[2..]);
            if (std.mem.startsWith(u8, word, "-l")) addOnce(b, &names, word[2..]);
        }
    }
    return .{
        .include_dirs = include_dirs.items,
        .library_dirs = library_dirs.items,
        .names = names.items,
    };
}

fn concat(b: *std.Build, left: Strings, right: Strings) Strings {
    return std.mem.concat(b.allocator, []const u8, &.{ left, right }) catch @panic("OOM");
}

fn push(b: *std.Build, list: anytype, item: anytype) void {
    list.append(b.allocator, item) catch @panic("OOM");
}

fn pushAll(b: *std.Build, list: anytype, items: anytype) void {
    list.appendSlice(b.allocator, items) catch @panic("OOM");
}

fn addOnce(b: *std.Build, list: *std.ArrayList([]const u8), word: []const u8) void {
    for (list.items) |old| if (std.mem.eql(u8, old, word)) return;
    push(b, list, b.dupe(word));
}

fn linkResolved(module: *std.Build.Module, libs: Resolved) void {
    for (libs.library_dirs) |dir| module.addLibraryPath(.{ .cwd_relative = dir });
    for (libs.names) |name| module.linkSystemLibrary(name, .{ .use_pkg_config = .no });
}

/// The same for a compiler that is not Zig's.
fn addIncludes(run: *Run, libs: Resolved) void {
    for (libs.include_dirs) |dir| run.addArgs(&.{ "-isystem", dir });
}

fn addLinks(b: *std.Build, run: *Run, libs: Resolved) void {
    for (libs.library_dirs) |dir| run.addArg(b.fmt("-L{s}", .{dir}));
    for (libs.names) |name| run.addArg(b.fmt("-l{s}", .{name}));
}

// ---------------------------------------------------------------------------------------------
// Artifacts of Zig's own compiler

/// ReleaseSafe gives what this program ships with: optimised, fortified, and TW_ASSERT is its own
/// affair. Zig's implicit undefined-behaviour traps are off; `zig build asan` has the real ones.
fn zigModule(c: Context, sources: Strings) *std.Build.Module {
    const module = c.b.createModule(.{
        .target = c.target,
        .optimize = if (c.debug) .Debug else .ReleaseSafe,
        .link_libc = true,
        .sanitize_c = .off,
        .strip = false,
        .pic = true,
    });
    module.addCSourceFiles(.{ .files = sources, .flags = c.flags });
    for ([_]Resolved{ c.libs, c.test_libs }) |libs| {
        for (libs.include_dirs) |dir| module.addSystemIncludePath(.{ .cwd_relative = dir });
    }
    return module;
}

fn zigLibrary(
    c: Context,
    name: []const u8,
    sources: Strings,
    generated: []const LazyPath,
) *Compile {
    const module = zigModule(c, sources);
    for (generated) |file| module.addCSourceFile(.{ .file = file, .flags = c.flags });
    const library = c.b.addLibrary(.{
        .name = name,
        .linkage = .static,
        .root_module = module,
        .use_llvm = true,
        .use_lld = true,
    });
    library.bundle_ubsan_rt = false;
    return library;
}

fn zigProgram(c: Context, name: []const u8, sources: Strings, links: []const *Compile) *Compile {
    const module = zigModule(c, sources);
    for (links) |library| module.linkLibrary(library);
    linkResolved(module, c.libs);
    for ([_][]const u8{ "m", "pthread" }) |system| {
        module.linkSystemLibrary(system, .{ .use_pkg_config = .no });
    }
    const exe = c.b.addExecutable(.{
        .name = name,
        .root_module = module,
        .use_llvm = true,
        .use_lld = true,
    });
    exe.bundle_ubsan_rt = false;
    exe.pie = true;
    return exe;
}

/// Hot paths under callgrind. The program is built for the processor of the machine that builds it;
/// this one for the oldest of its kind, so that instructions are the same everywhere.
fn guardProgram(c: Context) void {
    var plain = c;
    var query = c.target.query;
    query.cpu_model = .baseline;
    plain.target = c.b.resolveTargetQuery(query);
    const library = zigLibrary(plain, "guarded", c.program, &.{c.assets});
    const sources = listFiles(c.b, "bench/guard", .{});
    if (sources.len == 0) return;
    const exe = zigProgram(plain, "guard", sources, &.{library});
    const install = c.b.addInstallArtifact(exe, .{
        .dest_dir = .{ .override = .{ .custom = "guard" } },
    });
    c.steps.guard.dependOn(&install.step);
}

// ---------------------------------------------------------------------------------------------
// libtidewire: by the system's gcc, since a static library of Zig's needs more of Zig's. What is
// not declared TIDEWIRE_API is hidden in both forms: in the archive by making it one object whose
// hidden names are local, so that a program's own names never meet ours.

fn clientLibrary(c: Context) void {
    const b = c.b;
    const step = c.steps.install;
    const gcc = b.findProgram(&.{ "gcc-12", "gcc" }, &.{}) catch {
        step.dependOn(&b.addFail(no_gcc).step);
        return;
    };
    const libs = resolve(b, &client_libraries);
    const hidden: Strings = &.{ "-fPIC", "-fvisibility=hidden" };
    var objects: std.ArrayList(LazyPath) = .empty;
    for (client_roots) |root| for (listFiles(b, root, .{ .skip = &client_skip })) |source| {
        push(b, &objects, compileObject(c, gcc, "client", hidden, b.path(source), source));
    };

    const one = b.addSystemCommand(&.{ "ld", "-r", "-o" });
    const joined = one.addOutputFileArg("joined.o");
    for (objects.items) |object| one.addFileArg(object);
    const localize = b.addSystemCommand(&.{ "objcopy", "--localize-hidden" });
    localize.addFileArg(joined);
    const local = localize.addOutputFileArg("tidewire.o");
    const static = archive(c, "client", "tidewire", &.{local});

    const link = b.addSystemCommand(&.{ gcc, "-shared", "-pthread", "-Wl,-z,defs" });
    link.addArg(b.fmt("-Wl,-soname,{s}", .{client_soname}));
    for (objects.items) |object| link.addFileArg(object);
    addLinks(b, link, libs);
    link.addArgs(&.{ "-lm", "-o" });
    const shared = link.addOutputFileArg(client_soname);

    // The plain name is the one that a linker looks for.
    step.dependOn(&b.addInstallFileWithDir(static, .lib, "libtidewire.a").step);
    for ([_][]const u8{ client_soname, "libtidewire.so" }) |name| {
        step.dependOn(&b.addInstallFileWithDir(shared, .lib, name).step);
    }
    const header = b.path("clients/c/tidewire.h");
    step.dependOn(&b.addInstallFileWithDir(header, .header, "tidewire.h").step);
    const pc = b.addWriteFiles().add("tidewire.pc", pkgConfig(b, libs));
    step.dependOn(&b.addInstallFileWithDir(pc, .lib, "pkgconfig/tidewire.pc").step);
}

/// Its paths follow the file, so that the folder may be moved.
fn pkgConfig(b: *std.Build, libs: Resolved) []const u8 {
    var private: std.ArrayList(u8) = .empty;
    for (libs.library_dirs) |dir| pushAll(b, &private, b.fmt(" -L{s}", .{dir}));
    for (libs.names) |name| pushAll(b, &private, b.fmt(" -l{s}", .{name}));
    return b.fmt(
        \\prefix=${{pcfiledir}}/../..
        \\libdir=${{prefix}}/lib
        \\includedir=${{prefix}}/include
        \\
        \\Name: tidewire
        \\Description: Client of Tidewire's service socket
        \\Version: {s}
        \\Cflags: -I${{includedir}}
        \\Libs: -L${{libdir}} -ltidewire
        \\Libs.private:{s} -lm -pthread
        \\
    , .{ version, private.items });
}

// ---------------------------------------------------------------------------------------------
// Running tests: tests/run.py runs the program with a deadline, prints only what failed, and
// leaves the counts in zig-out/results/SUITE/ for script/test to add up.

fn runTest(c: Context, suite: []const u8, name: []const u8, exe: LazyPath, args: Strings) *Run {
    const run = c.b.addSystemCommand(&.{c.python});
    run.addFileArg(c.b.path("tests/run.py"));
    run.addArgs(&.{ "one", "--suite", suite, "--results", resultsDir(c.b, suite) });
    run.addArgs(&.{ "--name", name, "--" });
    run.addFileArg(exe);
    run.addArgs(args);
    asTest(c, run, c.b.fmt("{s} {s}", .{ suite, name }));
    return run;
}

fn asTest(c: Context, run: *Run, name: []const u8) void {
    run.setName(name);
    run.setCwd(c.b.path("."));
    run.setEnvironmentVariable("PYTHONDONTWRITEBYTECODE", "1");
    run.has_side_effects = true; // a test is run each time, never taken from the cache
    run.expectExitCode(0); // piped, so that tests run side by side
}

fn resultsDir(b: *std.Build, suite: []const u8) []const u8 {
    return b.getInstallPath(.prefix, b.fmt("results/{s}", .{suite}));
}

fn selected(c: Context, source: []const u8) bool {
    const filter = c.filter orelse return true;
    return std.mem.indexOf(u8, source, filter) != null;
}

// ---------------------------------------------------------------------------------------------
// The system's compilers: an object per source, with its depfile as an output, so that a changed
// header compiles again exactly what includes it.

fn findClang(b: *std.Build) ?[]const u8 {
    return b.findProgram(&.{ "clang-14", "clang-19", "clang" }, &.{}) catch null;
}

fn compileObject(
    c: Context,
    cc: []const u8,
    kind: []const u8,
    extra: Strings,
    source: LazyPath,
    name: []const u8,
) LazyPath {
    const b = c.b;
    const run = b.addSystemCommand(&.{cc});
    run.setName(b.fmt("{s} {s}", .{ kind, name }));
    run.setCwd(b.path("."));
    run.addArgs(c.flags);
    run.addArgs(extra);
    addIncludes(run, c.libs);
    addIncludes(run, c.test_libs);
    run.addArgs(&.{ "-MD", "-MF" });
    _ = run.addDepFileOutputArg("object.d");
    run.addArg("-c");
    run.addFileArg(source);
    run.addArg("-o");
    return run.addOutputFileArg(b.fmt("{s}.o", .{targetName(b, name)}));
}

fn archive(c: Context, kind: []const u8, name: []const u8, objects: []const LazyPath) LazyPath {
    const run = c.b.addSystemCommand(&.{ "ar", "rcsD" });
    run.setName(c.b.fmt("{s} archive {s}", .{ kind, name }));
    const out = run.addOutputFileArg(c.b.fmt("lib{s}.a", .{name}));
    for (objects) |object| run.addFileArg(object);
    return out;
}

fn linkProgram(
    c: Context,
    clang: []const u8,
    kind: []const u8,
    extra: Strings,
    name: []const u8,
    inputs: []const LazyPath,
) LazyPath {
    const run = c.b.addSystemCommand(&.{clang});
    run.setName(c.b.fmt("{s} link {s}", .{ kind, name }));
    run.addArgs(extra);
    run.addArgs(&.{ "-g", "-pthread" });
    for (inputs) |input| run.addFileArg(input);
    addLinks(c.b, run, c.libs);
    addLinks(c.b, run, c.test_libs);
    run.addArgs(&.{ "-lm", "-o" });
    return run.addOutputFileArg(name);
}

const Objects = struct { library: LazyPath, support: LazyPath };

/// The program's library and the tests' support, compiled by clang with `extra`.
fn clangLibraries(c: Context, clang: []const u8, kind: []const u8, extra: Strings) Objects {
    const b = c.b;
    var program: std.ArrayList(LazyPath) = .empty;
    var support: std.ArrayList(LazyPath) = .empty;
    for (c.program) |source| {
        push(b, &program, compileObject(c, clang, kind, extra, b.path(source), source));
    }
    push(b, &program, compileObject(c, clang, kind, extra, c.assets, "web_assets.c"));
    for (c.support) |source| {
        push(b, &support, compileObject(c, clang, kind, extra, b.path(source), source));
    }
    return .{
        .library = archive(c, kind, "tidewire", program.items),
        .support = archive(c, kind, "support", support.items),
    };
}

fn sanitized(c: Context, found: ?[]const u8, kind: Sanitizer, step: *std.Build.Step) void {
    const b = c.b;
    const name = @tagName(kind);
    const clang = found orelse {
        step.dependOn(&b.addFail(no_clang).step);
        return;
    };
    const extra: Strings = switch (kind) {
        .asan => &.{ "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all" },
        .tsan => &.{ "-O1", "-fsanitize=thread" },
    };
    const libs = clangLibraries(c, clang, name, extra);
    if (c.whole) {
        const main = compileObject(c, clang, name, extra, b.path("main.c"), "main.c");
        const exe = linkProgram(c, clang, name, extra, "tidewire", &.{ main, libs.library });
        step.dependOn(&b.addInstallFileWithDir(exe, .{ .custom = name }, "tidewire").step);
    }
    for (unitSources(b)) |source| {
        if (!selected(c, source)) continue;
        if (std.mem.startsWith(u8, source, "tools/")) continue; // no part of the program
        const object = compileObject(c, clang, name, extra, b.path(source), source);
        const exe = linkProgram(c, clang, name, extra, targetName(b, source), &.{
            object, libs.support, libs.library,
        });
        step.dependOn(&runTest(c, name, stem(source), exe, &.{}).step);
    }
    for (fuzzSources(b)) |source| {
        if (!selected(c, source) or !exists(b, replay_source)) continue;
        const object = compileObject(c, clang, name, extra, b.path(source), source);
        const replay = compileObject(c, clang, name, extra, b.path(replay_source), replay_source);
        const exe = linkProgram(c, clang, name, extra, targetName(b, source), &.{
            object, replay, libs.support, libs.library,
        });
        step.dependOn(&runTest(c, name, stem(source), exe, &.{corpusDir(b, source)}).step);
    }
}

fn fuzzTargets(c: Context, found: ?[]const u8, seconds: u32) void {
    const b = c.b;
    const clang = found orelse {
        c.steps.fuzz.dependOn(&b.addFail(no_clang).step);
        return;
    };
    const compile: Strings = &.{
        "-O1", "-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all",
    };
    const link: Strings = &.{"-fsanitize=fuzzer,address,undefined"};
    const sources = fuzzSources(b);
    if (sources.len == 0) return;
    const libs = clangLibraries(c, clang, "fuzz", compile);
    for (sources) |source| {
        if (!selected(c, source)) continue;
        const object = compileObject(c, clang, "fuzz", compile, b.path(source), source);
        const exe = linkProgram(c, clang, "fuzz", link, targetName(b, source), &.{
            object, libs.support, libs.library,
        });
        const kept = b.addInstallFileWithDir(exe, .{ .custom = "fuzz" }, targetName(b, source));
        c.steps.fuzz.dependOn(&kept.step);
        const run = b.addSystemCommand(&.{c.python});
        run.addFileArg(b.path("tests/run.py"));
        run.addArgs(&.{ "fuzz", "--results", resultsDir(b, "fuzz"), "--name", stem(source) });
        run.addArgs(&.{ "--seconds", b.fmt("{d}", .{seconds}), "--seeds", corpusDir(b, source) });
        const found_dir = b.fmt("fuzz-corpus/{s}", .{corpusName(source)});
        run.addArgs(&.{ "--found", b.getInstallPath(.prefix, found_dir), "--" });
        run.addFileArg(exe);
        asTest(c, run, b.fmt("fuzz {s}", .{stem(source)}));
        c.steps.fuzz.dependOn(&run.step);
    }
}

fn warnings(c: Context, clang: ?[]const u8) void {
    const b = c.b;
    const gcc = b.findProgram(&.{ "gcc-12", "gcc" }, &.{}) catch null;
    if (gcc == null) c.steps.warnings.dependOn(&b.addFail(no_gcc).step);
    if (clang == null) c.steps.warnings.dependOn(&b.addFail(no_clang).step);
    for (allC(b, ".c")) |source| {
        for ([_]?[]const u8{ gcc, clang }, [_][]const u8{ "gcc", "clang" }) |found, kind| {
            const cc = found orelse continue;
            const is_example = std.mem.startsWith(u8, source, "clients/c/examples/");
            const extra: Strings = if (is_example) &.{"-Iclients/c"} else &.{};
            const object = compileObject(c, cc, kind, extra, b.path(source), source);
            object.addStepDependencies(c.steps.warnings);
        }
    }
    for (allC(b, ".h")) |header| { // each header compiles alone
        const cc = clang orelse continue;
        const alone: Strings = &.{
            "-Wno-pragma-once-outside-header", "-Wno-unused-function", "-xc",
        };
        const object = compileObject(c, cc, "header", alone, b.path(header), header);
        object.addStepDependencies(c.steps.warnings);
    }
}

/// Adds `zig build format`; returns the step that only compares, where version 14 is installed:
/// another version would ask for other line breaks.
fn formatting(c: Context) ?*std.Build.Step {
    const b = c.b;
    const tool = b.findProgram(&.{"clang-format-14"}, &.{}) catch {
        c.steps.format.dependOn(&b.addFail("clang-format-14 was not found: run script/test").step);
        return null;
    };
    const sources = allC(b, ".c");
    const headers = allC(b, ".h");
    if (sources.len + headers.len == 0) return null;
    const rewrite = b.addSystemCommand(&.{ tool, "-i", "--style=file" });
    const compare = b.addSystemCommand(&.{ c.python, "tests/run.py", "format" });
    compare.addArgs(&.{ "--results", resultsDir(b, "tidy"), "--", tool });
    for ([_]*Run{ rewrite, compare }) |run| {
        run.setCwd(b.path("."));
        run.addArgs(sources);
        run.addArgs(headers);
    }
    c.steps.format.dependOn(&rewrite.step);
    asTest(c, compare, "compare format");
    c.steps.format_check.dependOn(&compare.step);
    return &compare.step;
}

// ---------------------------------------------------------------------------------------------
// What stands where. Lists are sorted, so that a build does not depend on the file system.

/// The program's folders with all that lie below them; examples are programs of their own.
fn programDirs(b: *std.Build) Strings {
    var all: std.ArrayList([]const u8) = .empty;
    for (program_roots) |root| addDirs(b, &all, root);
    return all.items;
}

fn addDirs(b: *std.Build, all: *std.ArrayList([]const u8), dir: []const u8) void {
    var folder = b.build_root.handle.openDir(dir, .{ .iterate = true }) catch return;
    defer folder.close();
    push(b, all, dir);
    const first = all.items.len;
    var entries = folder.iterate();
    while (entries.next() catch @panic("a folder cannot be read")) |entry| {
        if (entry.kind != .directory or entry.name[0] == '.') continue;
        if (std.mem.eql(u8, entry.name, "examples")) continue;
        addDirs(b, all, b.fmt("{s}/{s}", .{ dir, entry.name }));
    }
    std.mem.sort([]const u8, all.items[first..], {}, lessThan);
}

/// The library's sources. `only` leaves out the rest, so that a test of one folder can be built
/// while another folder does not compile.
fn programSources(b: *std.Build, only: ?[]const u8) Strings {
    var all: std.ArrayList([]const u8) = .empty;
    for (programDirs(b)) |dir| {
        for (listFiles(b, dir, .{ .skip = &.{ "_test.c", "_fuzz.c" } })) |source| {
            if (isBelow(source, only)) push(b, &all, source);
        }
    }
    return all.items;
}

fn isBelow(source: []const u8, only: ?[]const u8) bool {
    var prefixes = std.mem.tokenizeScalar(u8, only orelse return true, ',');
    while (prefixes.next()) |prefix| {
        if (std.mem.startsWith(u8, source, prefix)) return true;
    }
    return false;
}

/// Unit tests beside their sources, tests of the tests' support, and regressions.
fn unitSources(b: *std.Build) Strings {
    var all: std.ArrayList([]const u8) = .empty;
    for (programDirs(b)) |dir| {
        pushAll(b, &all, listFiles(b, dir, .{ .end = "_test.c" }));
    }
    for ([_][]const u8{ "tests/support", "tools" }) |dir| {
        pushAll(b, &all, listFiles(b, dir, .{ .end = "_test.c" }));
    }
    pushAll(b, &all, listFiles(b, "tests/regress", .{}));
    return all.items;
}

fn fuzzSources(b: *std.Build) Strings {
    var all: std.ArrayList([]const u8) = .empty;
    for (programDirs(b)) |dir| {
        pushAll(b, &all, listFiles(b, dir, .{ .end = "_fuzz.c" }));
    }
    return all.items;
}

/// Tools other than tidy, which is built without the program's library.
fn toolSources(b: *std.Build) Strings {
    return listFiles(b, "tools", .{ .skip = &.{ "_test.c", "tidy.c" } });
}

fn benchShared(b: *std.Build) Strings {
    return listFiles(b, "bench", .{ .end = "_link.c" });
}

/// Every C file of the tree that ends so.
fn allC(b: *std.Build, end: []const u8) Strings {
    var all: std.ArrayList([]const u8) = .empty;
    if (std.mem.eql(u8, end, ".c") and exists(b, "main.c")) push(b, &all, "main.c");
    for (programDirs(b)) |dir| {
        pushAll(b, &all, listFiles(b, dir, .{ .end = end }));
    }
    const others = [_][]const u8{
        "clients/c/examples", "tests/regress", "tests/support", "bench", "bench/guard", "tools",
    };
    for (others) |dir| {
        pushAll(b, &all, listFiles(b, dir, .{ .end = end }));
    }
    return all.items;
}

const ListOptions = struct { end: []const u8 = ".c", skip: Strings = &.{} };

/// The files of one folder, not of those below it.
fn listFiles(b: *std.Build, dir: []const u8, options: ListOptions) Strings {
    var found: std.ArrayList([]const u8) = .empty;
    var folder = b.build_root.handle.openDir(dir, .{ .iterate = true }) catch return found.items;
    defer folder.close();
    var entries = folder.iterate();
    next: while (entries.next() catch @panic("a folder cannot be read")) |entry| {
        if (entry.kind == .directory or entry.name[0] == '.') continue;
        if (!std.mem.endsWith(u8, entry.name, options.end)) continue;
        for (options.skip) |end| if (std.mem.endsWith(u8, entry.name, end)) continue :next;
        push(b, &found, b.fmt("{s}/{s}", .{ dir, entry.name }));
    }
    std.mem.sort([]const u8, found.items, {}, lessThan);
    return found.items;
}

fn lessThan(_: void, left: []const u8, right: []const u8) bool {
    return std.mem.lessThan(u8, left, right);
}

fn exists(b: *std.Build, file: []const u8) bool {
    b.build_root.handle.access(file, .{}) catch return false;
    return true;
}

/// "broker/position_test.c" -> "broker/position_test"
fn stem(source: []const u8) []const u8 {
    return source[0 .. source.len - 2];
}

/// "bench/wsload.c" -> "wsload"
fn baseName(source: []const u8) []const u8 {
    return std.fs.path.stem(source);
}

/// "broker/position_test.c" -> "broker_position_test"
fn targetName(b: *std.Build, source: []const u8) []const u8 {
    const name = b.dupe(if (std.mem.endsWith(u8, source, ".c")) stem(source) else source);
    std.mem.replaceScalar(u8, name, '/', '_');
    return name;
}

/// "protocol/codec_fuzz.c" -> "codec"
fn corpusName(source: []const u8) []const u8 {
    const name = baseName(source);
    return name[0 .. name.len - "_fuzz".len];
}

fn corpusDir(b: *std.Build, source: []const u8) []const u8 {
    return b.fmt("tests/corpus/{s}", .{corpusName(source)});
}

// ---------------------------------------------------------------------------------------------
// web_assets.c: the pages as C source; protocol/asset.h declares what it defines

const Asset = struct { file: []const u8, path: []const u8 };

fn webAssets(b: *std.Build) LazyPath {
    var assets: std.ArrayList(Asset) = .empty;
    for (asset_roots) |root| collectAssets(b, &assets, root.dir, root.prefix);
    std.mem.sort(Asset, assets.items, {}, assetLessThan);

    var out: std.ArrayList(u8) = .empty;
    pushAll(b, &out, "#include \"protocol/asset.h\"\n\n");
    for (assets.items, 0..) |asset, i| {
        const bytes = b.build_root.handle.readFileAlloc(b.allocator, asset.file, 64 << 20) catch
            @panic("a web asset cannot be read");
        const size = bytes.len + 1;
        pushAll(b, &out, b.fmt("static const unsigned char asset_{d}[{d}] =", .{ i, size }));
        var rest: []const u8 = bytes;
        if (rest.len == 0) pushAll(b, &out, "\n    \"\"");
        while (rest.len > 0) {
            const line = rest[0..@min(rest.len, 64)];
            rest = rest[line.len..];
            pushAll(b, &out, "\n    \"");
            for (line) |byte| {
                const plain = std.ascii.isAlphanumeric(byte) or
                    std.mem.indexOfScalar(u8, " .,;:(){}[]<>=+-*/#!&|'_", byte) != null;
                pushAll(b, &out, if (plain) &.{byte} else b.fmt("\\{o:0>3}", .{byte}));
            }
            pushAll(b, &out, "\"");
        }
        pushAll(b, &out, ";\n");
    }
    pushAll(b, &out, "\nconst struct tw_asset tw_assets[] = {\n");
    for (assets.items, 0..) |asset, i| {
        pushAll(b, &out, b.fmt("    {{\"{s}\", \"{s}\", asset_{d}, sizeof asset_{d} - 1}},\n", .{
            asset.path, contentType(asset.path), i, i,
        }));
    }
    if (assets.items.len == 0) pushAll(b, &out, "    {0},\n");
    pushAll(b, &out, b.fmt("}};\nconst size_t tw_assets_count = {d};\n", .{assets.items.len}));
    return b.addWriteFiles().add("web_assets.c", out.items);
}

fn collectAssets(
    b: *std.Build,
    assets: *std.ArrayList(Asset),
    dir: []const u8,
    prefix: []const u8,
) void {
    var folder = b.build_root.handle.openDir(dir, .{ .iterate = true }) catch return;
    defer folder.close();
    var entries = folder.iterate();
    while (entries.next() catch @panic("a folder cannot be read")) |entry| {
        if (entry.name[0] == '.' or std.mem.eql(u8, entry.name, "node_modules")) continue;
        if (std.mem.indexOf(u8, entry.name, ".test.") != null) continue;
        const file = b.fmt("{s}/{s}", .{ dir, entry.name });
        const path = b.fmt("{s}/{s}", .{ prefix, entry.name });
        if (entry.kind == .directory) {
            collectAssets(b, assets, file, path);
        } else {
            push(b, assets, Asset{ .file = file, .path = path });
        }
    }
}

fn assetLessThan(_: void, left: Asset, right: Asset) bool {
    return std.mem.lessThan(u8, left.path, right.path);
}

fn contentType(path: []const u8) []const u8 {
    const types = [_][2][]const u8{
        .{ ".html", "text/html; charset=utf-8" },
        .{ ".js", "text/javascript; charset=utf-8" },
        .{ ".mjs", "text/javascript; charset=utf-8" },
        .{ ".css", "text/css; charset=utf-8" },
        .{ ".json", "application/json" },
        .{ ".map", "application/json" },
        .{ ".svg", "image/svg+xml" },
        .{ ".png", "image/png" },
        .{ ".ico", "image/x-icon" },
        .{ ".woff2", "font/woff2" },
        .{ ".txt", "text/plain; charset=utf-8" },
        .{ ".md", "text/plain; charset=utf-8" },
        .{ ".webmanifest", "application/manifest+json" },
    };
    for (types) |row| if (std.mem.endsWith(u8, path, row[0])) return row[1];
    return "application/octet-stream";
}
