//! Attaches the hooks for failed execs: the first of two kinds that this kernel allows.

use super::error::LoadError;
use super::fallback::Fallback;
use super::hook::{BY_FUNCTION, BY_TRACEPOINT, Hook};
use super::object::Object;

/// Attaches the requested kind, or else the first kind that works. Reports a fallback if that is not the first.
pub(crate) fn attach(
    object: &mut Object,
    by_function: Option<bool>,
    fallbacks: &mut Vec<Fallback>,
) -> Result<[Hook; 2], LoadError> {
    if let Some(by_function) = by_function {
        let hooks = if by_function { BY_FUNCTION } else { BY_TRACEPOINT };
        return both(object, &hooks).map(|()| hooks);
    }
    let Err(error) = both(object, &BY_FUNCTION) else { return Ok(BY_FUNCTION) };
    both(object, &BY_TRACEPOINT)?;
    tracing::debug!("{}: {error}", BY_FUNCTION[0].name());
    fallbacks.push(Fallback::SlowSystemCalls);
    Ok(BY_TRACEPOINT)
}

/// Attaches both hooks or none.
pub(crate) fn both(object: &mut Object, hooks: &[Hook; 2]) -> Result<(), LoadError> {
    let attached = hooks.iter().try_for_each(|hook| object.load(hook).and_then(|()| object.attach(hook)));
    if attached.is_err() {
        for hook in hooks {
            object.unload(hook);
        }
    }
    attached
}
