//! Offsets of the kernel's structures, read from the running kernel's BTF before the programs are loaded.
//!
//! The kernel side gets them as frozen `.rodata`, so each is a constant to the verifier. A member that this kernel
//! lacks is [`ABSENT`], and the verifier removes the code that would read it.

/// This kernel has no such member.
pub const ABSENT: u32 = u32::MAX;

/// Lists every offset once: the structure, its all-absent value, and the names to look up in BTF.
macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident: $kind:ident $(($size:literal))? = $struct:literal . $path:literal),+ $(,)?) => {
        /// Byte offsets into kernel structures; for a [`Want::Bit`] the bit offset.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets { $($(#[$doc])* pub $field: u32),+ }

        impl Offsets {
            /// No member known.
            pub const NONE: Self = Self { $($field: ABSENT),+ };

            /// The members in the order of the fields: what to look up, and how much it matters.
            pub const MEMBERS: &'static [Member] =
                &[$(Member { field: stringify!($field), of: $struct, path: $path, want: Want::$kind, size: 0 $(+ $size)? }),+];

            /// Builds the structure by asking `lookup` for each member.
            pub fn build<E>(mut lookup: impl FnMut(&Member) -> Result<u32, E>) -> Result<Self, E> {
                Ok(Self { $($field: lookup(&Member {
                    field: stringify!($field), of: $struct, path: $path, want: Want::$kind, size: 0 $(+ $size)? })?),+ })
            }
        }
    };
}

/// One member of a kernel structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Field of [`Offsets`].
    pub field: &'static str,
    /// Kernel structure.
    pub of: &'static str,
    /// Member, dotted where it is nested. `a|b` names alternatives of different kernels, and `#size` is the size of the
    /// structure itself.
    pub path: &'static str,
    /// How it is used.
    pub want: Want,
    /// Required size in bytes; 0 for any.
    pub size: u32,
}

/// How a member is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Tracing cannot work without it.
    Needed,
    /// A field of the output is missing without it.
    Useful,
    /// A bit field: the offset is in bits.
    Bit,
    /// Data of a trace event, for programs that read it. Others work without.
    Event,
}

offsets! {
    /// Thread id.
    task_pid: Needed(4) = "task_struct"."pid",
    /// Thread-group id.
    task_tgid: Needed(4) = "task_struct"."tgid",
    /// Task flags (`PF_*`).
    task_flags: Needed(4) = "task_struct"."flags",
    /// Parent that receives the exit status, ignoring ptrace.
    task_real_parent: Needed(8) = "task_struct"."real_parent",
    /// Leader of the thread group.
    task_group_leader: Needed(8) = "task_struct"."group_leader",
    /// Data that the threads of a process share.
    task_signal: Needed(8) = "task_struct"."signal",
    /// Signal handlers.
    task_sighand: Useful(8) = "task_struct"."sighand",
    /// Whether the task can be reaped, or has been (`EXIT_*`, include/linux/sched.h).
    task_exit_state: Useful(4) = "task_struct"."exit_state",
    /// This thread's exit code.
    task_exit_code: Needed(4) = "task_struct"."exit_code",
    /// Creation time, boot clock; `real_start_time` before 5.5.
    task_start_boottime: Needed(8) = "task_struct"."start_boottime|real_start_time",
    /// How often the task or an ancestor exec'd.
    task_self_exec_id: Useful(8) = "task_struct"."self_exec_id",
    /// Name.
    task_comm: Needed(0) = "task_struct"."comm",
    /// Credentials seen by others.
    task_real_cred: Needed(8) = "task_struct"."real_cred",
    /// Memory map.
    task_mm: Needed(8) = "task_struct"."mm",
    /// Root and working directory.
    task_fs: Useful(8) = "task_struct"."fs",
    /// Pid in every namespace.
    task_thread_pid: Useful(8) = "task_struct"."thread_pid",
    /// Links in the lists of its pid.
    task_pid_links: Useful(0) = "task_struct"."pid_links",
    /// Link in `signal_struct.thread_head`.
    task_thread_node: Useful(0) = "task_struct"."thread_node",
    /// Audit login uid.
    task_loginuid: Useful(4) = "task_struct"."loginuid",
    /// Namespaces.
    task_nsproxy: Useful(8) = "task_struct"."nsproxy",
    /// Control groups.
    task_cgroups: Useful(8) = "task_struct"."cgroups",
    /// Tick-sampled user time.
    task_utime: Useful(8) = "task_struct"."utime",
    /// Tick-sampled system time.
    task_stime: Useful(8) = "task_struct"."stime",
    /// Voluntary switches.
    task_nvcsw: Useful(8) = "task_struct"."nvcsw",
    /// Involuntary switches.
    task_nivcsw: Useful(8) = "task_struct"."nivcsw",
    /// Minor faults.
    task_min_flt: Useful(8) = "task_struct"."min_flt",
    /// Major faults.
    task_maj_flt: Useful(8) = "task_struct"."maj_flt",
    /// Bytes read from storage.
    task_read_bytes: Useful(8) = "task_struct"."ioac.read_bytes",
    /// Bytes written to storage.
    task_write_bytes: Useful(8) = "task_struct"."ioac.write_bytes",
    /// Scheduler clock of the last runtime update.
    task_exec_start: Useful(8) = "task_struct"."se.exec_start",
    /// Time on a CPU.
    task_sum_exec_runtime: Useful(8) = "task_struct"."se.sum_exec_runtime",
    /// Run queue of the task's CPU, through the fair class.
    task_cfs_rq: Useful(8) = "task_struct"."se.cfs_rq",
    /// Run queue.
    cfs_rq_rq: Useful(8) = "cfs_rq"."rq",
    /// Scheduler clock.
    rq_clock: Useful(8) = "rq"."clock",
    /// Scheduler clock minus interrupt and stolen time.
    rq_clock_task: Useful(8) = "rq"."clock_task",
    /// Live threads.
    signal_live: Needed(4) = "signal_struct"."live",
    /// Flags (`SIGNAL_GROUP_EXIT`).
    signal_flags: Needed(4) = "signal_struct"."flags",
    /// Exit code of the whole group.
    signal_group_exit_code: Needed(4) = "signal_struct"."group_exit_code",
    /// Threads not yet released, zombies included.
    signal_nr_threads: Useful(4) = "signal_struct"."nr_threads",
    /// List of threads.
    signal_thread_head: Useful(0) = "signal_struct"."thread_head",
    /// Is a child subreaper.
    signal_is_child_subreaper: Bit = "signal_struct"."is_child_subreaper",
    /// Has a child subreaper among its ancestors.
    signal_has_child_subreaper: Bit = "signal_struct"."has_child_subreaper",
    /// `struct pid` by type.
    signal_pids: Needed(0) = "signal_struct"."pids",
    /// Controlling terminal.
    signal_tty: Useful(8) = "signal_struct"."tty",
    /// User time of exited threads.
    signal_utime: Useful(8) = "signal_struct"."utime",
    /// System time of exited threads.
    signal_stime: Useful(8) = "signal_struct"."stime",
    /// User time of children waited for.
    signal_cutime: Useful(8) = "signal_struct"."cutime",
    /// System time of children waited for.
    signal_cstime: Useful(8) = "signal_struct"."cstime",
    /// User time last reported.
    signal_prev_utime: Useful(8) = "signal_struct"."prev_cputime.utime",
    /// System time last reported.
    signal_prev_stime: Useful(8) = "signal_struct"."prev_cputime.stime",
    /// Runtime of exited threads.
    signal_sum_sched_runtime: Useful(8) = "signal_struct"."sum_sched_runtime",
    /// Voluntary switches of exited threads.
    signal_nvcsw: Useful(8) = "signal_struct"."nvcsw",
    /// Involuntary switches of exited threads.
    signal_nivcsw: Useful(8) = "signal_struct"."nivcsw",
    /// Voluntary switches of children waited for.
    signal_cnvcsw: Useful(8) = "signal_struct"."cnvcsw",
    /// Involuntary switches of children waited for.
    signal_cnivcsw: Useful(8) = "signal_struct"."cnivcsw",
    /// Minor faults of exited threads.
    signal_min_flt: Useful(8) = "signal_struct"."min_flt",
    /// Major faults of exited threads.
    signal_maj_flt: Useful(8) = "signal_struct"."maj_flt",
    /// Minor faults of children waited for.
    signal_cmin_flt: Useful(8) = "signal_struct"."cmin_flt",
    /// Major faults of children waited for.
    signal_cmaj_flt: Useful(8) = "signal_struct"."cmaj_flt",
    /// Largest resident set, pages.
    signal_maxrss: Useful(8) = "signal_struct"."maxrss",
    /// Largest resident set of a child waited for, pages.
    signal_cmaxrss: Useful(8) = "signal_struct"."cmaxrss",
    /// Bytes read by exited threads and children waited for.
    signal_read_bytes: Useful(8) = "signal_struct"."ioac.read_bytes",
    /// Bytes written by exited threads and children waited for.
    signal_write_bytes: Useful(8) = "signal_struct"."ioac.write_bytes",
    /// Set for a victim of the OOM killer.
    signal_oom_mm: Useful(8) = "signal_struct"."oom_mm",
    /// Handlers by signal.
    sighand_action: Useful(0) = "sighand_struct"."action",
    /// Handler of one signal.
    k_sigaction_handler: Useful(8) = "k_sigaction"."sa.sa_handler",
    /// Size of one handler's entry.
    k_sigaction_size: Useful(0) = "k_sigaction"."#size",
    /// Why a signal was sent.
    siginfo_code: Useful(4) = "kernel_siginfo"."si_code",
    /// Depth of the pid namespace.
    pid_level: Useful(4) = "pid"."level",
    /// Pid in each namespace.
    pid_numbers: Needed(0) = "pid"."numbers",
    /// The tasks that use it, by `enum pid_type`.
    pid_tasks: Useful(0) = "pid"."tasks",
    /// Size of one entry of it.
    upid_size: Useful(0) = "upid"."#size",
    /// The number.
    upid_nr: Needed(4) = "upid"."nr",
    /// The namespace.
    upid_ns: Useful(8) = "upid"."ns",
    /// A namespace's init.
    pid_ns_child_reaper: Useful(8) = "pid_namespace"."child_reaper",
    /// A pid namespace's number.
    pid_ns_inum: Useful(4) = "pid_namespace"."ns.inum",
    /// Mount namespace.
    nsproxy_mnt_ns: Useful(8) = "nsproxy"."mnt_ns",
    /// A mount namespace's number.
    mnt_ns_inum: Useful(4) = "mnt_namespace"."ns.inum",
    /// Real uid.
    cred_uid: Needed(4) = "cred"."uid",
    /// Real gid.
    cred_gid: Needed(4) = "cred"."gid",
    /// Effective uid.
    cred_euid: Needed(4) = "cred"."euid",
    /// Effective gid.
    cred_egid: Needed(4) = "cred"."egid",
    /// Permitted capabilities (64 bits).
    cred_cap_permitted: Useful(8) = "cred"."cap_permitted",
    /// Ambient capabilities (64 bits).
    cred_cap_ambient: Useful(8) = "cred"."cap_ambient",
    /// Supplementary groups.
    cred_group_info: Useful(8) = "cred"."group_info",
    /// Start of argv.
    mm_arg_start: Needed(8) = "mm_struct"."arg_start",
    /// End of argv.
    mm_arg_end: Needed(8) = "mm_struct"."arg_end",
    /// Start of the stack of a new image, where the number of arguments is.
    mm_start_stack: Useful(8) = "mm_struct"."start_stack",
    /// Executable.
    mm_exe_file: Useful(8) = "mm_struct"."exe_file",
    /// An open file's mount.
    file_mnt: Useful(8) = "file"."f_path.mnt",
    /// An open file's name.
    file_dentry: Useful(8) = "file"."f_path.dentry",
    /// Credentials of the process that opened it.
    file_cred: Useful(8) = "file"."f_cred",
    /// Working directory's mount.
    fs_pwd_mnt: Useful(8) = "fs_struct"."pwd.mnt",
    /// Working directory.
    fs_pwd_dentry: Useful(8) = "fs_struct"."pwd.dentry",
    /// Parent directory.
    dentry_parent: Useful(8) = "dentry"."d_parent",
    /// Name of the last component.
    dentry_name: Useful(8) = "dentry"."d_name.name",
    /// Hash chain: its back pointer is null once the name is gone.
    dentry_hash_pprev: Useful(8) = "dentry"."d_hash.pprev",
    /// Root of a mounted tree.
    vfsmount_root: Useful(8) = "vfsmount"."mnt_root",
    /// Mount flags.
    vfsmount_flags: Useful(4) = "vfsmount"."mnt_flags",
    /// Offset of the `vfsmount` in its `mount`.
    mount_mnt: Useful(0) = "mount"."mnt",
    /// Mount it is mounted on.
    mount_parent: Useful(8) = "mount"."mnt_parent",
    /// Directory it is mounted on.
    mount_mountpoint: Useful(8) = "mount"."mnt_mountpoint",
    /// Number of arguments.
    binprm_argc: Useful(4) = "linux_binprm"."argc",
    /// Path as passed to execve.
    binprm_filename: Useful(8) = "linux_binprm"."filename",
    /// Path of the interpreter.
    binprm_interp: Useful(8) = "linux_binprm"."interp",
    /// Driver of a terminal.
    tty_driver: Useful(8) = "tty_struct"."driver",
    /// Its index.
    tty_index: Useful(4) = "tty_struct"."index",
    /// Major number.
    tty_driver_major: Useful(4) = "tty_driver"."major",
    /// First minor number.
    tty_driver_minor_start: Useful(4) = "tty_driver"."minor_start",
    /// The task's cgroup in the v2 hierarchy.
    css_set_dfl_cgrp: Useful(8) = "css_set"."dfl_cgrp",
    /// The task's state in each controller, which leads to its cgroup in that controller's hierarchy.
    css_set_subsys: Useful(0) = "css_set"."subsys",
    /// The cgroup that a controller's state belongs to.
    css_cgroup: Useful(8) = "cgroup_subsys_state"."cgroup",
    /// The hierarchy of a cgroup.
    cgroup_root: Useful(8) = "cgroup"."root",
    /// Its number, as in `/proc/PID/cgroup`.
    cgroup_root_hierarchy: Useful(4) = "cgroup_root"."hierarchy_id",
    /// A cgroup's directory.
    cgroup_kn: Useful(8) = "cgroup"."kn",
    /// The directory's inode number.
    kernfs_node_id: Useful(8) = "kernfs_node"."id",
    /// The output of an iterator.
    iter_meta_seq: Useful(8) = "bpf_iter_meta"."seq",
    /// Its state.
    seq_file_private: Useful(8) = "seq_file"."private",
    /// The pid at which it found the task, in the reader's namespace.
    iter_task_tid: Useful(4) = "bpf_iter_seq_task_info"."tid",
    /// Position of the path in the event of an exec: offset from the event's start in the lower half, length in the
    /// upper half.
    event_exec_filename: Event(4) = "trace_event_raw_sched_process_exec"."__data_loc_filename",
    /// The thread that called exec.
    event_exec_old_tid: Event(4) = "trace_event_raw_sched_process_exec"."old_pid",
    /// Whether the whole process has exited.
    event_exit_group_dead: Event(1) = "trace_event_raw_sched_process_exit"."group_dead",
}

const _: () = assert!(Offsets::MEMBERS.len() * 4 == size_of::<Offsets>());
