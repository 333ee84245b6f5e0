// The version of this agent, as it reports it.
export const AGENT_VERSION = '0.1.0'
