using System.Runtime.InteropServices;

namespace Testbed.Uffd.Interop;

/// <summary>Starting and collecting programs that are going to be traced, see <see cref="LaunchedProgram"/>.</summary>
internal static partial class Native
{
    [LibraryImport("libc", EntryPoint = "posix_spawnp")]
    public static unsafe partial int PosixSpawnp(int* pid, byte* file, SpawnFileActions* actions, SpawnAttributes* attributes, byte** argv, byte** envp);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_init")]
    public static unsafe partial int SpawnFileActionsInit(SpawnFileActions* actions);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_adddup2")]
    public static unsafe partial int SpawnFileActionsAddDup2(SpawnFileActions* actions, int fd, int newFd);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_addopen")]
    public static unsafe partial int SpawnFileActionsAddOpen(SpawnFileActions* actions, int fd, byte* path, int flags, uint mode);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_addclosefrom_np")]
    public static unsafe partial int SpawnFileActionsAddCloseFrom(SpawnFileActions* actions, int from);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_destroy")]
    public static unsafe partial int SpawnFileActionsDestroy(SpawnFileActions* actions);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_init")]
    public static unsafe partial int SpawnAttributesInit(SpawnAttributes* attributes);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setflags")]
    public static unsafe partial int SpawnAttributesSetFlags(SpawnAttributes* attributes, short flags);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setsigdefault")]
    public static unsafe partial int SpawnAttributesSetDefault(SpawnAttributes* attributes, SignalSet* signals);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setsigmask")]
    public static unsafe partial int SpawnAttributesSetMask(SpawnAttributes* attributes, SignalSet* signals);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    public static partial int Kill(int pid, int signal);

    [KernelConstants("spawn.h")]
    public static class SpawnH
    {
        public const short POSIX_SPAWN_SETSIGDEF = 4, POSIX_SPAWN_SETSIGMASK = 8, POSIX_SPAWN_SETSID = 0x80;
    }

    [KernelStruct("posix_spawn_file_actions_t", "spawn.h")]
    [StructLayout(LayoutKind.Sequential, Size = 80)]
    public struct SpawnFileActions;

    [KernelStruct("posix_spawnattr_t", "spawn.h")]
    [StructLayout(LayoutKind.Sequential, Size = 336)]
    public struct SpawnAttributes;

    [KernelStruct("sigset_t", "signal.h")]
    [StructLayout(LayoutKind.Sequential, Size = 128)]
    public struct SignalSet;
}
