using System.Diagnostics;
using System.Reflection;
using Testbed.Core;

namespace Testbed.Policies;

/// <summary>A policy that is not ours: when it throws, that is bad input, and the message says where in its file.</summary>
internal sealed class OutsidePolicy(IPolicy policy, string name, string origin) : IPolicy
{
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        try
        {
            policy.OnFault(fault, map, plan);
        }
        catch (Exception e)
        {
            throw Blamed(e, policy.GetType().Assembly, name, origin);
        }
    }

    public void OnIdle(PageMap map, Plan plan)
    {
        try
        {
            policy.OnIdle(map, plan);
        }
        catch (Exception e)
        {
            throw Blamed(e, policy.GetType().Assembly, name, origin);
        }
    }

    /// <summary>The error with the first place in the policy's own source that it came through.</summary>
    public static BadInputException Blamed(Exception e, Assembly outside, string name, string origin)
    {
        StackFrame? frame = new StackTrace(e, fNeedFileInfo: true).GetFrames()
            .FirstOrDefault(f => f.GetMethod()?.DeclaringType?.Assembly == outside && f.GetFileLineNumber() > 0);
        string place = frame is null ? origin : $"{frame.GetFileName()}({frame.GetFileLineNumber()})";
        return new BadInputException($"{place}: policy {name} threw {e.GetType().Name}: {e.Message}", e);
    }
}
