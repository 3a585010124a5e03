using Testbed.Core;

namespace Testbed.Policies;

/// <summary>Proposes single pages as runs where they are neighbours, upwards or downwards: one request, not many.</summary>
internal struct RunBuilder
{
    private long _first, _count;

    /// <summary>The next page; it is proposed when another that is no neighbour comes, or at the end.</summary>
    public void Add(long page, Plan plan)
    {
        if (_count > 0 && page == _first + _count)
        {
            _count++;
        }
        else if (_count > 0 && page == _first - 1)
        {
            (_first, _count) = (page, _count + 1);
        }
        else
        {
            Flush(plan);
            (_first, _count) = (page, 1);
        }
    }

    /// <summary>Proposes what is not yet.</summary>
    public void Flush(Plan plan)
    {
        plan.Add(_first, _count, Cause.Prefetch);
        _count = 0;
    }
}
