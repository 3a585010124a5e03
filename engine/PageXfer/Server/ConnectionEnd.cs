namespace Testbed.PageXfer.Server;

/// <summary>How a connection to a page server ended.</summary>
public enum ConnectionEnd
{
    /// <summary>With CLOSE: the client says that all is in, or that all was sent.</summary>
    Closed,

    /// <summary>Without CLOSE, while images were being received over it: they are dropped.</summary>
    Dropped,

    /// <summary>Its peer asked for what this server cannot serve, or said what is no message for it.</summary>
    Refused,

    /// <summary>
    /// Without CLOSE, and nothing of it is kept: the peer went away, or no TLS connection came about.
    /// </summary>
    Left,
}
