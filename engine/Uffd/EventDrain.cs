using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>Reads messages while no service does: a thread that caused one waits until it is read.</summary>
internal sealed class EventDrain(UserFaultFd fd)
{
    private readonly UffdMessage[] _messages = new UffdMessage[64];
    private readonly List<PageNumber> _faults = [];

    /// <summary>
    /// While pages are being dropped: the messages are our own doing. A fault can only be the kernel's (a ring served by a kernel thread,
    /// say), and is remembered.
    /// </summary>
    public void DropMessages()
    {
        for (int n; (n = fd.Read(_messages)) > 0;)
        {
            foreach (UffdMessage message in _messages.AsSpan(0, n))
            {
                if (message.Event == UffdEvent.PageFault)
                    _faults.Add(message.Page);
            }
        }
    }

    /// <summary>Lets those who faulted fault again, for the service to see.</summary>
    public void WakeFaults()
    {
        foreach (PageNumber page in _faults)
            fd.Wake(PageRange.Single(page));
        _faults.Clear();
    }

    /// <summary>After the last page came in: a missing page is one that the program dropped or never had, and is zero.</summary>
    public void AnswerMessages()
    {
        for (int n; (n = fd.Read(_messages)) > 0;)
        {
            foreach (UffdMessage message in _messages.AsSpan(0, n))
            {
                switch (message.Event)
                {
                    case UffdEvent.Fork:
                        // The child has every page, or a zero page to come: the closing unregisters it.
                        _ = Native.Close(message.ForkedFd);
                        break;
                    case UffdEvent.PageFault when fd.Zero(PageRange.Single(message.Page), out _) != CopyOutcome.Installed:
                        // There already, being changed, or gone: the thread looks again.
                        fd.Wake(PageRange.Single(message.Page));
                        break;
                }
            }
        }
    }
}
