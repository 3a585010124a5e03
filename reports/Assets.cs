using System.Text;

namespace Testbed.Reports;

/// <summary>Files embedded in this assembly.</summary>
internal static class Assets
{
    public static byte[] Bytes(string name)
    {
        using Stream stream = typeof(Assets).Assembly.GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"{name}: not embedded in Testbed.Reports");
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    public static string Text(string name) => Encoding.UTF8.GetString(Bytes(name));
}
