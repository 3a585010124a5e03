using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>Tells, once when it begins and again when it is over, that pages cannot be had from their source and are waited for.</summary>
/// <param name="log">Is told, in one line; the first argument says whether it is bad news.</param>
internal sealed class SourceWatch(Action<bool, string> log)
{
    private bool _away, _failing;

    /// <summary>To be called now and then.</summary>
    public void Look(LiveService live)
    {
        if (live.ServerAway > Core.Duration.Zero != _away)
        {
            _away = !_away;
            log(_away, _away
                ? $"the page server is away ({live.WhyAway}); trying again, for without it the processes would lose memory"
                : "the page server is back");
        }
        string? trouble = live.SourceTrouble;
        if (trouble is not null != _failing)
        {
            _failing = !_failing;
            log(_failing, _failing
                ? $"pages cannot be read ({trouble}); trying again, for without them the processes would lose memory; to give up, kill the processes"
                : "the pages can be read again");
        }
    }
}
