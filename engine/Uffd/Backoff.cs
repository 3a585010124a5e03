namespace Testbed.Uffd;

/// <summary>
/// Pauses between looks at something that cannot be waited for: first short, then a millisecond each.
/// </summary>
internal struct Backoff
{
    private int _round;

    /// <summary>Lets others run.</summary>
    public void Pause()
    {
        if (_round < 200)
            Thread.Yield();
        else
            Thread.Sleep(_round < 2000 ? 0 : 1);
        _round++;
    }
}
