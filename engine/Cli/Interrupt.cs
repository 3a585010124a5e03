using System.Runtime.InteropServices;

namespace Testbed.Cli;

/// <summary>
/// The signals that ask us to end (Ctrl-C, Ctrl-\, SIGTERM, a terminal that goes) as a token. Whoever holds memory of a process gives it
/// back first, however often one presses. Those that would stop us (Ctrl-Z, output in the background) have no effect: a process
/// whose memory is missing would wait for us, and the guard does not take over from somebody who lives.
/// </summary>
internal sealed class Interrupt : IDisposable
{
    private const int SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22;
    private readonly CancellationTokenSource _source = new();
    private readonly PosixSignalRegistration[] _registrations;

    public Interrupt() => _registrations =
    [
        .. ((ReadOnlySpan<PosixSignal>)[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT]).ToArray()
            .Select(signal => PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                _source.Cancel();
            })),
        .. ((ReadOnlySpan<int>)[SIGTSTP, SIGTTIN, SIGTTOU]).ToArray()
            .Select(signal => PosixSignalRegistration.Create((PosixSignal)signal, context => context.Cancel = true)),
    ];

    public CancellationToken Token => _source.Token;

    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
            registration.Dispose();
        _source.Dispose();
    }
}
